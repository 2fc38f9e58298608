/** A trainer that the system kills, as it does when memory runs out. The run continues with a fallback. */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
const DYING_TRAINER = new URL('../utils/models/dying-trainer.ts', import.meta.url);
const STEPS = 12;
const EVERY = 4;

let folder: string;
const at = (...parts: string[]): string => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fallback-'));
  await mkdir(at('texts'));
  await makeTinyModel(at('model'));
  await writeFile(at('texts/a.txt'), TINY_TEXT.repeat(3));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Line {
  event: string;
  step: number;
  [more: string]: unknown;
}

/**
 * Runs `lora-swarm train`.
 * @param lives number of steps after which each trainer in turn kills itself. The trainer after them trains to the end
 */
async function train(
  output: string,
  lives: readonly number[] = [],
): Promise<{ status: number | null; lines: Line[] }> {
  const args = ['train', '--model', 'model', '--data', 'texts', '--output', output, '--steps', String(STEPS)];
  const size = ['--batch-size', '8', '--micro-batch', '8', '--sequence-length', '32'];
  const machine = ['--checkpoint-every', String(EVERY), '--engine', 'onnx-cpu', '--threads', '1', '--json'];
  await mkdir(at('lives', output), { recursive: true });
  const child = spawn(process.execPath, [SWARM, ...args, ...size, ...machine], {
    cwd: folder,
    env: {
      ...process.env,
      SWARM_CACHE: at('cache'),
      NODE_OPTIONS: `--import ${DYING_TRAINER}`,
      DYING_TRAINER: at('lives', output),
      DYING_TRAINER_STEPS: lives.join(','),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: Line[] = [];
  createInterface({ input: child.stdout }).on('line', (text) => lines.push(JSON.parse(text) as Line));
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, lines })));
}

test('a killed trainer restarts with a fallback from the newest checkpoint', async () => {
  const straight = await train('straight');
  expect(straight.status).toBe(0);
  const { status, lines } = await train('killed', [2, 2, 6]);
  expect(status).toBe(0);
  const fallbacks = lines.filter(({ event }) => event === 'fallback');
  expect(fallbacks).toMatchObject([
    { microBatch: 8, checkpointing: true, because: expect.stringContaining('SIGKILL') },
    { microBatch: 4, checkpointing: true, because: expect.stringContaining('4 rows') },
    { microBatch: 2, checkpointing: true, because: expect.stringContaining('2 rows') },
  ]);
  const resumed = lines.filter(({ event }) => event === 'resumed').map(({ step }) => step);
  expect(resumed).toEqual([EVERY]);
  const [end, expected] = [lines.at(-1)!, straight.lines.at(-1)!];
  expect(end).toMatchObject({ event: 'trained', step: STEPS, tokens: expected.tokens });
  // The fallback trains on the same batches in smaller micro-batches, so the sums of the gradients are rounded differently.
  expect(end.loss).toBeCloseTo(expected.loss as number, 4);
});
