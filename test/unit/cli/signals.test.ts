import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';

/** A process that drains as `body` says (with `signal` at hand), started and ready for signals. */
async function start(body: string) {
  const file = join(mkdtempSync(join(tmpdir(), 'swarm-signals-')), 'child.mjs');
  const signals = pathToFileURL(join(import.meta.dirname, '../../../cli/signals.ts')).href;
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

describe('signals', () => {
  it('the first one lets the command drain, and says so', async () => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      const { child, code, stderr } = await start("signal.addEventListener('abort', () => process.exit(0));");
      child.kill(name);
      expect(await code(), name).toBe(0);
      expect(stderr(), name).toContain('again to force');
    }
  });

  it('the second one ends it at once', async () => {
    const { child, code } = await start("signal.addEventListener('abort', () => console.error('draining'));");
    child.kill('SIGINT');
    // Two signals at once would be one.
    await once(child.stderr, 'data');
    child.kill('SIGINT');
    expect(await code()).toBe(130);
  });

  it('a drain that hangs ends by itself', async () => {
    const { child, code } = await start('');
    child.kill('SIGTERM');
    expect(await code()).toBe(130);
  });
});
