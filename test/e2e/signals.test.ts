import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';
import { HAS_SIGNALS } from '../utils/source/platform.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));

/**
 * Starts a process that runs `body`, and waits until it is ready for signals. In `body`, `signal` is the drain signal.
 */
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
    const { child, code, stderr } = await start(
      "signal.addEventListener('abort', () => console.error('draining'));",
    );
    child.kill('SIGINT');
    await once(child.stderr, 'data');
    // The process ignores signals in the half second after the first one (see StopRequests), so this sends many.
    const again = setInterval(() => child.kill('SIGINT'), 50);
    onTestFinished(() => clearInterval(again));
    expect(await code()).toBe(130);
    // The command reports each of the two signals that count.
    expect(stderr().match(/^lora-swarm: /gm)).toHaveLength(2);
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'count as one if %s arrives again at once',
    async (name) => {
      const { child, code, stderr } = await start(
        "signal.addEventListener('abort', () => { console.error('draining'); setTimeout(() => process.exit(0), 300); });",
      );
      child.kill(name);
      // Wait until the first signal has arrived, because the system may deliver two equal signals as one.
      await once(child.stderr, 'data');
      child.kill(name);
      expect(await code()).toBe(0);
      expect(stderr().match(/^lora-swarm: /gm)).toHaveLength(1);
    },
  );

  it('end a drain that hangs', async () => {
    const { child, code } = await start('');
    child.kill('SIGTERM');
    expect(await code()).toBe(130);
  });
});

describe.skipIf(!HAS_SIGNALS)('a signal to the whole process group of lora-swarm train', () => {
  const folder = mkdtempSync(join(tmpdir(), 'swarm-signals-'));
  beforeAll(async () => {
    await makeTinyModel(join(folder, 'model'));
    writeFileSync(join(folder, 'text.txt'), TINY_TEXT.repeat(3));
    // Measuring the loss on these held-out rows takes about a second.
    writeFileSync(join(folder, 'held-out.txt'), TINY_TEXT.repeat(1000));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  interface Line {
    event: string;
    step: number;
    part?: string;
  }

  /** Runs `lora-swarm train` until its end, in a process group of its own. `onLine` may send a signal to the group. */
  async function train(
    output: string,
    more: readonly string[],
    onLine: (line: Line, kill: (name: NodeJS.Signals) => void, stdout: Readable) => void,
  ) {
    const args = ['--model', 'model', '--data', 'text.txt', '--output', output, '--checkpoint-every', '0'];
    const size = ['--batch-size', '2', '--sequence-length', '16', '--engine', 'onnx-cpu', '--threads', '1'];
    const child = spawn(process.execPath, [SWARM, 'train', ...args, ...size, ...more, '--json'], {
      cwd: folder,
      env: { ...process.env, SWARM_CACHE: join(folder, 'cache') },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const kill = (name: NodeJS.Signals): void => void process.kill(-child.pid!, name);
    const lines: Line[] = [];
    let stderr = '';
    child.stderr.on('data', (text: Buffer) => {
      stderr += text;
    });
    createInterface({ input: child.stdout }).on('line', (text) => {
      lines.push(JSON.parse(text) as Line);
      onLine(lines.at(-1)!, kill, child.stdout);
    });
    const [status] = (await once(child, 'close')) as [number | null];
    const partial = lines.find(({ event }) => event === 'partial');
    return { status, stderr, partial, last: lines.at(-1)! };
  }

  const interrupted = { event: 'error', error: { code: 'INTERRUPTED', next: null } };

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s saves the steps since the last checkpoint',
    async (name) => {
      let sent = false;
      const run = await train(name, ['--steps', '100000'], ({ event, step }, kill) => {
        if (event !== 'step' || step < 5 || sent) return;
        sent = true;
        kill(name);
      });
      expect(run.status, run.stderr).toBe(130);
      expect(run.partial!.step).toBeGreaterThanOrEqual(5);
      expect(run.last).toMatchObject(interrupted);
      expect(run.stderr).not.toMatch(/^\s+at /m);
      expect(readdirSync(join(folder, name))).toContain('adapter_model.safetensors');
      expect(readdirSync(join(folder, name, 'checkpoints'))).toHaveLength(1);
    },
  );

  it('saves them even if the same signal ended the program that reads the output', async () => {
    let sent = false;
    const run = await train('piped', ['--steps', '100000'], ({ event, step }, kill, stdout) => {
      if (event !== 'step' || step < 5 || sent) return;
      sent = true;
      kill('SIGINT');
      stdout.destroy();
    });
    // The signal may arrive before or after the end of the pipe. The exit code depends on that.
    expect([0, 130], run.stderr).toContain(run.status);
    expect(readdirSync(join(folder, 'piped'))).toContain('adapter_model.safetensors');
  });

  it('a closed output ends the command in the same way, and is no failure', async () => {
    let closed = false;
    const run = await train('head', ['--steps', '100000'], ({ event, step }, _, stdout) => {
      if (event !== 'step' || step < 5 || closed) return;
      closed = true;
      stdout.destroy();
    });
    expect(run.status, run.stderr).toBe(0);
    expect(readdirSync(join(folder, 'head'))).toContain('adapter_model.safetensors');
  });

  it('while the trainer starts ends the command without a report of a failure', async () => {
    const run = await train('starting', ['--steps', '5'], ({ event }, kill) => {
      if (event === 'data') kill('SIGINT');
    });
    expect(run.status, run.stderr).toBe(130);
    expect(run.last).toMatchObject(interrupted);
    expect(run.stderr).not.toMatch(/memory|^\s+at /m);
  });

  it('during the last measurement keeps the trained adapter', async () => {
    const run = await train(
      'measuring',
      ['--steps', '5', '--held-out', 'held-out.txt'],
      ({ event }, kill) => {
        if (event === 'checkpoint') kill('SIGINT');
      },
    );
    expect(run.status, run.stderr).toBe(130);
    expect(run.partial).toMatchObject({ step: 5, resumable: true });
    expect(run.last).toMatchObject(interrupted);
    expect(readdirSync(join(folder, 'measuring'))).toContain('adapter_model.safetensors');
  });
});
