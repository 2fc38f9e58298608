/** `lora-swarm train` as a user runs it, killed and resumed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'swarm-resume-'));
const at = (...names: string[]): string => join(folder, ...names);
const STEPS = 40;

interface Line {
  event: string;
  step: number;
  [more: string]: unknown;
}

/** Runs `lora-swarm train`. @param onLine may send a signal */
function swarm(args: readonly string[], onLine: (line: Line, child: ChildProcess) => void = () => {}) {
  const child = spawn(process.execPath, [SWARM, 'train', ...args, '--json'], {
    cwd: folder,
    env: { ...process.env, SWARM_CACHE: at('cache') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: Line[] = [];
  let stderr = '';
  child.stderr!.on('data', (text: Buffer) => {
    stderr += text;
  });
  createInterface({ input: child.stdout! }).on('line', (text) => {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    onLine(line, child);
  });
  return new Promise<{ status: number | null; lines: Line[]; stderr: string; last: Line }>((resolve) => {
    child.on('close', (status) => resolve({ status, lines, stderr, last: lines.at(-1)! }));
  });
}

// Settings with every feature that draws random numbers or counts steps.
const SETTINGS = `
base: model
data: { train: texts, heldOut: held-out.txt }
lora: { rank: 4, dropout: 0.2 }
training:
  learningRate: 5e-3
  schedule: cosine
  warmupSteps: 4
  batchSize: 4
  microBatch: 2
  sequenceLength: 16
  neftuneAlpha: 5
  labelSmoothing: 0.1
  loraPlusRatio: 2
run: { steps: ${STEPS}, evaluateEvery: 8, checkpointEvery: 5 }
`;

async function digest(output: string): Promise<string> {
  const bytes = await readFile(at(output, 'adapter_model.safetensors'));
  return createHash('sha256').update(bytes).digest('hex');
}

let straight = '';
beforeAll(async () => {
  await mkdir(at('texts'));
  await makeTinyModel(at('model'));
  await writeFile(at('texts/a.txt'), TINY_TEXT.repeat(3));
  await writeFile(at('held-out.txt'), TINY_TEXT.slice(100));
  await writeFile(at('config.yaml'), SETTINGS);
  const run = await swarm(['--config', 'config.yaml', '--output', 'straight']);
  expect(run.status, run.stderr).toBe(0);
  straight = await digest('straight');
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a killed run', { timeout: 180_000 }, () => {
  it('continues from its last checkpoint after every kill, to the same bytes', async () => {
    let args = ['--config', 'config.yaml', '--output', 'killed'];
    for (const target of [3, 11, 23, 24]) {
      const run = await swarm(args, ({ event, step }, child) => {
        if (event === 'step' && step === target) child.kill('SIGKILL');
      });
      expect(run.status).toBeNull();
      // The checkpoint contains the settings. Before the first checkpoint, the settings file is needed.
      args = target < 5 ? [...args, '--resume'] : ['--resume', '--output', 'killed'];
    }
    const end = await swarm(args);
    expect(end.status, end.stderr).toBe(0);
    // The kill at step 24 may come before or after the checkpoint of a new best loss at that step.
    expect([20, 24]).toContain(end.lines.find(({ event }) => event === 'resumed')?.step);
    expect(end.last).toMatchObject({ event: 'trained', step: STEPS, finished: 'steps' });
    expect(await digest('killed')).toBe(straight);
    // Resuming a finished run changes nothing.
    const again = await swarm(args);
    expect(again.last).toMatchObject({ event: 'trained', step: STEPS });
    expect(await digest('killed')).toBe(straight);
  });

  it('saves the step that it reached when interrupted, and continues from there', async () => {
    const args = ['--config', 'config.yaml', '--output', 'interrupted'];
    const run = await swarm(args, ({ event, step }, child) => {
      if (event === 'step' && step === 12) child.kill('SIGINT');
    });
    expect(run.status).toBe(130);
    const partial = run.lines.find(({ event }) => event === 'partial')!;
    expect(partial.step).toBeGreaterThanOrEqual(12);
    expect(await readdir(at('interrupted'))).toContain('adapter_model.safetensors');
    const end = await swarm([...args, '--resume']);
    expect(end.lines.find(({ event }) => event === 'resumed')?.step).toBe(partial.step);
    expect(await digest('interrupted')).toBe(straight);
  });

  it('is not resumed with other settings, data or base, and not overwritten without --force', async () => {
    const resume = ['--resume', '--output', 'straight'];
    const refused = async (args: readonly string[], field: string) => {
      const run = await swarm(args);
      expect(run.status, run.stderr).toBe(6);
      const { error } = run.last as unknown as {
        error: { code: string; values: { differences: { field: string }[] } };
      };
      expect(error.code).toBe('RESUME_CONFLICT');
      expect(error.values.differences.map((difference) => difference.field)).toContain(field);
    };
    await refused([...resume, '--learning-rate', '1e-3'], 'training.learningRate');
    await writeFile(at('other.txt'), `${TINY_TEXT.repeat(3)}!`);
    await refused([...resume, '--data', 'other.txt'], 'data.train');
    await makeTinyModel(at('other-model'), { seed: 2 });
    await refused([...resume, '--model', 'other-model'], 'base');
    // Neither the path of the base nor --keep-checkpoints counts as a difference.
    await cp(at('model'), at('moved-model'), { recursive: true });
    expect((await swarm([...resume, '--model', 'moved-model', '--keep-checkpoints', '1'])).status).toBe(0);

    const again = await swarm(['--config', 'config.yaml', '--output', 'straight']);
    expect([again.status, (again.last as unknown as { error: { code: string } }).error.code]).toEqual([
      6,
      'OUTPUT_EXISTS',
    ]);
    expect(await digest('straight')).toBe(straight);
    expect((await swarm([...resume, '--force'])).status).toBe(2);
  });
});

describe('a finished run', { timeout: 120_000 }, () => {
  it('continues to a higher number of steps, with the same result as one long run', async () => {
    const config = ['--config', 'config.yaml', '--schedule', 'constant', '--checkpoint-every', '0'];
    const long = await swarm([...config, '--output', 'long', '--steps', '20']);
    expect(long.status, long.stderr).toBe(0);
    const short = await swarm([...config, '--output', 'short', '--steps', '16']);
    expect(short.status, short.stderr).toBe(0);
    const resume = ['--resume', '--output', 'short'];
    const end = await swarm([...resume, '--steps', '20']);
    expect(end.status, end.stderr).toBe(0);
    expect(end.lines.find(({ event }) => event === 'resumed')?.step).toBe(16);
    expect(end.last).toMatchObject({ event: 'trained', step: 20, finished: 'steps' });
    expect(await digest('short')).toBe(await digest('long'));
    const back = await swarm([...resume, '--steps', '10']);
    expect(back.status).toBe(6);
    expect(back.last).toMatchObject({ error: { code: 'RESUME_CONFLICT' } });
  });
});

describe('a run with held-out text', { timeout: 120_000 }, () => {
  it('stops early when the loss no longer falls, and keeps the best adapter', async () => {
    const run = await swarm([
      ...['--config', 'config.yaml', '--output', 'early', '--learning-rate', '0.5', '--schedule', 'constant'],
      ...['--evaluate-every', '4', '--patience', '2', '--steps', '200'],
    ]);
    expect(run.status, run.stderr).toBe(0);
    const measured = run.lines.filter(({ event }) => event === 'evaluated');
    const losses = measured.map(({ heldOutLoss }) => Number(heldOutLoss));
    const best = measured[losses.indexOf(Math.min(...losses))]!;
    expect(run.last).toMatchObject({
      event: 'trained',
      finished: 'early-stopping',
      stopping: { patience: 2, minDelta: 0 },
      adapterStep: best.step,
      lossAfter: best.heldOutLoss,
    });
    expect(run.last.step).toBe(measured.at(-1)!.step);
    const kept = await readFile(
      at('early/checkpoints', `step-${String(best.step).padStart(8, '0')}`, 'adapter_model.safetensors'),
    );
    expect(createHash('sha256').update(kept).digest('hex')).toBe(await digest('early'));
  });
});

describe('a held-out share', { timeout: 60_000 }, () => {
  it('is not trained, is the same on resume, and does not depend on the path of the files', async () => {
    const lines = Array.from({ length: 60 }, (_, n) =>
      JSON.stringify({ text: `${n} is a number, ${TINY_TEXT.slice(n, n + 40)}` }),
    );
    await mkdir(at('here'));
    await writeFile(at('here/lines.jsonl'), `${lines.join('\n')}\n`);
    const args = ['--model', 'model', '--output', 'share', '--steps', '4', '--sequence-length', '32'];
    const run = await swarm([...args, '--data', 'here', '--held-out', '0.2']);
    expect(run.status, run.stderr).toBe(0);
    const data = run.lines.filter(({ event }) => event === 'data') as unknown as {
      tally: { samples: number };
    }[];
    expect(data.map(({ tally }) => tally.samples)).toEqual([48, 12]);
    expect(run.last.lossAfter).not.toBeNull();
    await cp(at('here'), at('there'), { recursive: true });
    const resume = ['--resume', '--output', 'share'];
    expect((await swarm([...resume, '--data', 'there'])).status).toBe(0);
    expect((await swarm([...resume, '--held-out', '0.1'])).status).toBe(6);
  });
});

describe('a dry run', { timeout: 60_000 }, () => {
  it('reports memory, time and disk, applies a preset, and writes nothing', async () => {
    const run = await swarm([
      '--model',
      'model',
      '--data',
      'texts',
      '--preset',
      'auto',
      '--rank',
      '2',
      '--dry-run',
    ]);
    expect(run.status, run.stderr).toBe(0);
    const [engine, preset, estimate] = run.lines as unknown as [
      { event: string; engine: string },
      { event: string; choices: { field: string; value: unknown }[] },
      {
        event: string;
        memory: { total: number };
        fits: boolean;
        spec: { lora: object; training: object };
        steps: number;
      },
    ];
    expect([engine.event, preset.event, estimate.event]).toEqual(['engine', 'preset', 'estimate']);
    const chosen = Object.fromEntries(preset.choices.map(({ field, value }) => [field, value]));
    expect(chosen).not.toHaveProperty('lora.rank');
    expect(estimate).toMatchObject({
      fits: true,
      counted: true,
      spec: { lora: { rank: 2, alpha: 32 }, training: { learningRate: chosen['training.learningRate'] } },
    });
    expect(estimate.memory.total).toBeGreaterThan(100e6);
    expect(await readdir(folder)).not.toContain('undefined');
  });

  it('reads only the first part of long data', async () => {
    const line = (n: number) =>
      JSON.stringify({
        messages: [
          { role: 'user', content: `What is ${n}?` },
          { role: 'assistant', content: 'A number.' },
        ],
      });
    await writeFile(at('chat.jsonl'), Array.from({ length: 4000 }, (_, n) => `${line(n)}\n`).join(''));
    const args = ['--model', 'model', '--data', 'chat.jsonl', '--template', 'plain', '--preset', 'quick'];
    const run = await swarm([...args, '--dry-run']);
    expect(run.status, run.stderr).toBe(0);
    const estimate = run.last as unknown as { event: string; counted: boolean; rows: number };
    expect(estimate).toMatchObject({ event: 'estimate', counted: false });
    const packed = await swarm([...args, '--output', 'chat', '--steps', '1']);
    const { rows } = packed.lines.find(({ event }) => event === 'plan') as unknown as { rows: number };
    expect(Math.abs(estimate.rows / rows - 1)).toBeLessThan(0.2);
  });
});
