import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HAS_SIGNALS } from '../utils/platform.ts';

/** Starts a process that runs `body`, in which `signal` is the drain signal. It is ready for signals. */
async function start(body: string) {
  const file = join(mkdtempSync(join(tmpdir(), 'swarm-signals-')), 'child.mjs');
  const signals = pathToFileURL(join(import.meta.dirname, '../../cli/signals.ts')).href;
  writeFileSync(
    file,
    `import { drainOnSignals } from ${JSON.stringify(signals)};
     const signal = drainOnSignals();
     setInterval(() => {}, 1000);
     ${body}
     console.log('ready');`,
  );
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
  });
  const exited = once(child, 'close');
  await once(child.stdout, 'data');
  return { child, code: async () => (await exited)[0] as number, stderr: () => stderr };
}

describe.skipIf(!HAS_SIGNALS)('signals', () => {
  it('drain the command at the first one', async () => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      const { child, code, stderr } = await start("signal.addEventListener('abort', () => process.exit(0));");
      child.kill(name);
      expect(await code(), name).toBe(0);
      expect(stderr(), name).toContain('5 s');
    }
  });

  it('end the process at the second one', async () => {
    const { child, code } = await start("signal.addEventListener('abort', () => console.error('draining'));");
    child.kill('SIGINT');
    // Two signals sent together are delivered as one.
    await once(child.stderr, 'data');
    child.kill('SIGINT');
    expect(await code()).toBe(130);
  });

  it('end a drain that hangs', async () => {
    const { child, code } = await start('');
    child.kill('SIGTERM');
    expect(await code()).toBe(130);
  });
});
