import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HelperProcess } from '../../../cli/helper-process.ts';
import { fakeContext } from '../../utils/cli-context.ts';

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
const FOR_EVER = 'setInterval(() => {}, 1000);';

/** A process that has ended may still be listed until somebody asks how; that is no life. */
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
  it('tells its events, and drains when it is asked to stop', async () => {
    const { helper } = start(`process.on('SIGTERM', () => process.exit(0));${READY}${FOR_EVER}`);
    expect(await helper.first('ready', { signal })).toMatchObject({ args: ['a', 'b'] });
    await helper.stop();
    expect(await helper.exited).toEqual({ code: 0, signal: null });
    await helper.stop();
  });

  it('that does not get up shows its last words', async () => {
    const { helper, log } = start("console.error('no port left'); process.exit(7);");
    await expect(helper.first('ready', { signal })).rejects.toMatchObject({
      code: 'HELPER_FAILED',
      values: { process: 'node otter', code: 7, lines: ['no port left'] },
    });
    expect(log()).toBe('no port left\n');
  });

  it('takes what it has started with it when it is killed', async () => {
    const grandchild = `import { spawn } from 'node:child_process';
      const child = spawn(process.execPath, ['-e', '${FOR_EVER}'], { stdio: 'ignore' });
      console.log(JSON.stringify({ event: 'ready', pid: child.pid }));${FOR_EVER}`;
    const { helper } = start(grandchild);
    const { pid } = await helper.first('ready', { signal });
    expect(alive(Number(pid))).toBe(true);
    helper.kill();
    await helper.exited;
    await expect.poll(() => alive(Number(pid))).toBe(false);
  });

  it('drains when the process that started it is gone, however suddenly', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'swarm-helper-'));
    const cli = (name: string) =>
      JSON.stringify(pathToFileURL(join(import.meta.dirname, '../../../cli', name)).href);
    const child = join(dir, 'child.mjs');
    writeFileSync(
      child,
      `import { drainOnSignals } from ${cli('signals.ts')};
       drainOnSignals().addEventListener('abort', () => process.exit(0));
       console.log(JSON.stringify({ event: 'ready', pid: process.pid }));${FOR_EVER}`,
    );
    const parent = join(dir, 'parent.mjs');
    writeFileSync(
      parent,
      `import { HelperProcess } from ${cli('helper-process.ts')};
       const context = { self: { node: process.execPath, script: ${JSON.stringify(child)} }, cwd: '/', environment: {} };
       const helper = new HelperProcess({ name: 'x', arguments: [], logFile: ${JSON.stringify(join(dir, 'log'))} }, context);
       const { pid } = await helper.first('ready', { signal: new AbortController().signal });
       console.log(pid);
       process.kill(process.pid, 'SIGKILL');`,
    );
    const { stdout, signal: killed } = spawnSync(process.execPath, [parent], { encoding: 'utf8' });
    expect(killed).toBe('SIGKILL');
    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(0);
    await expect.poll(() => alive(pid), { timeout: 10_000 }).toBe(false);
  });
});
