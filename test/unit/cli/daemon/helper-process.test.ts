import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HelperProcess } from '../../../../cli/daemon/helper-process.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { eventually } from '../../../utils/eventually.ts';
import { HAS_SIGNALS } from '../../../utils/source/platform.ts';

const signal = new AbortController().signal;

function start(script: string) {
  const dir = mkdtempSync(join(tmpdir(), 'swarm-helper-'));
  const file = join(dir, 'child.mjs');
  writeFileSync(file, script);
  const { context } = fakeContext({ cwd: dir, self: { node: process.execPath, script: file } });
  const helper = new HelperProcess(
    { name: 'node otter', arguments: ['a', 'b'], logFile: join(dir, 'logs/a.log') },
    context,
  );
  onTestFinished(() => helper.kill());
  return { helper, log: () => readFileSync(join(dir, 'logs/a.log'), 'utf8') };
}

const READY = "console.log(JSON.stringify({ event: 'ready', args: process.argv.slice(2) }));";
const RUN_FOREVER = 'setInterval(() => {}, 1000);';

/** Whether a process runs. A zombie (ended, but not yet reaped) does not. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (error) {
    return (
      error instanceof Error && 'code' in error && error.code === 'ENOENT' && process.platform !== 'linux'
    );
  }
}

describe('a helper process', () => {
  it.skipIf(!HAS_SIGNALS)('reports its events, and drains on stop', async () => {
    const { helper } = start(`process.on('SIGTERM', () => process.exit(0));${READY}${RUN_FOREVER}`);
    expect(await helper.first('ready', { signal })).toMatchObject({ args: ['a', 'b'] });
    await helper.stop();
    expect(await helper.exited).toEqual({ code: 0, signal: null });
    await helper.stop();
  });

  it('that does not start fails with its last lines', async () => {
    const { helper, log } = start("console.error('no port left'); process.exit(7);");
    await expect(helper.first('ready', { signal })).rejects.toMatchObject({
      code: 'HELPER_FAILED',
      values: { process: 'node otter', code: 7, lines: ['no port left'] },
    });
    expect(log()).toBe('no port left\n');
  });

  // Windows has no process groups: its trainers end because their channel closes.
  it.skipIf(!HAS_SIGNALS)('is killed together with its children', async () => {
    const grandchild = `import { spawn } from 'node:child_process';
      const child = spawn(process.execPath, ['-e', '${RUN_FOREVER}'], { stdio: 'ignore' });
      console.log(JSON.stringify({ event: 'ready', pid: child.pid }));${RUN_FOREVER}`;
    const { helper } = start(grandchild);
    const { pid } = await helper.first('ready', { signal });
    expect(alive(Number(pid))).toBe(true);
    helper.kill();
    await helper.exited;
    await eventually(() => !alive(Number(pid)));
  });

  it('drains when its parent is killed', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'swarm-helper-'));
    const cli = (name: string) =>
      JSON.stringify(pathToFileURL(join(import.meta.dirname, '../../../../cli', name)).href);
    const child = join(dir, 'child.mjs');
    writeFileSync(
      child,
      `import { drainOnSignals } from ${cli('signals.ts')};
       drainOnSignals().addEventListener('abort', () => process.exit(0));
       console.log(JSON.stringify({ event: 'ready', pid: process.pid }));${RUN_FOREVER}`,
    );
    const parent = join(dir, 'parent.mjs');
    writeFileSync(
      parent,
      `import { HelperProcess } from ${cli('daemon/helper-process.ts')};
       const context = { self: { node: process.execPath, script: ${JSON.stringify(child)} }, cwd: '/', environment: {} };
       const helper = new HelperProcess({ name: 'x', arguments: [], logFile: ${JSON.stringify(join(dir, 'log'))} }, context);
       const { pid } = await helper.first('ready', { signal: new AbortController().signal });
       console.log(pid);
       process.kill(process.pid, 'SIGKILL');`,
    );
    const { stdout, signal: killed } = spawnSync(process.execPath, [parent], { encoding: 'utf8' });
    expect(killed).toBe(HAS_SIGNALS ? 'SIGKILL' : null);
    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(0);
    await eventually(() => !alive(pid));
  });
});
