import type { Context, Output } from '../../cli/context.ts';

/** The context of a command for tests. Collects output; the clock stands still. */
export function fakeContext(overrides: Partial<Context> = {}): {
  context: Context;
  out: () => string;
  err: () => string;
} {
  const written = { out: '', err: '' };
  const output = (key: 'out' | 'err'): Output => ({
    write: (text) => {
      written[key] += text;
    },
    isTTY: false,
    columns: 80,
    rows: 24,
    color: false,
  });
  const context: Context = {
    cwd: '/',
    stdin: { isTerminal: false, read: async function* () {} },
    stdout: output('out'),
    stderr: output('err'),
    clock: { now: () => 0, monotonic: () => 0, after: () => () => {} },
    signal: new AbortController().signal,
    onInterrupt: () => () => {},
    onResize: () => () => {},
    keys: async function* () {},
    version: '1.2.3',
    self: { node: process.execPath, script: '/nowhere/swarm.js' },
    root: '/nowhere/',
    ...overrides,
    environment: { SWARM_REGISTRY: process.env.SWARM_REGISTRY, ...overrides.environment },
  };
  return { context, out: () => written.out, err: () => written.err };
}
