/** A trainer that the system kills, as it does where memory runs out: the run goes on with less at a time. */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeTinyModel, TINY_TEXT } from '../utils/tiny-model.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
/** Far more than are made while a process is being killed. */
const STEPS = 300;
const EVERY = 20;

let folder: string;
const at = (...parts: string[]): string => join(folder, ...parts);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lighter-'));
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

/** Processes that this one started: on Linux, where the system kills those that take too much. */
async function childrenOf(pid: number): Promise<number[]> {
  const children: number[] = [];
  for (const name of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    if (Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]) === pid) children.push(Number(name));
  }
  return children;
}

/** Trains, and kills so many trainers, each when it has reported a step. */
async function train(output: string, kills = 0): Promise<{ status: number | null; lines: Line[] }> {
  const args = ['train', '--model', 'model', '--data', 'texts', '--output', output, '--steps', String(STEPS)];
  const size = ['--batch-size', '8', '--micro-batch', '8', '--sequence-length', '32'];
  const machine = ['--checkpoint-every', String(EVERY), '--engine', 'onnx-cpu', '--threads', '1', '--json'];
  const child = spawn(process.execPath, [SWARM, ...args, ...size, ...machine], {
    cwd: folder,
    env: { ...process.env, SWARM_CACHE: at('cache') },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: Line[] = [];
  let left = kills;
  let isNew = true;
  createInterface({ input: child.stdout }).on('line', async (text) => {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    if (line.event === 'lighter') isNew = true;
    if (line.event !== 'step' || !isNew || left === 0) return;
    isNew = false;
    left--;
    for (const pid of await childrenOf(child.pid!)) process.kill(pid, 'SIGKILL');
  });
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, lines })));
}

test.skipIf(process.platform !== 'linux')(
  'a killed trainer is started again with fewer rows at a time, from the newest checkpoint, and says so',
  async () => {
    const straight = await train('straight');
    expect(straight.status).toBe(0);
    const { status, lines } = await train('killed', 2);
    expect(status).toBe(0);
    const told = lines.filter(({ event }) => event === 'lighter');
    expect(told).toMatchObject([
      { engine: 'onnx-cpu', microBatch: 4, because: expect.stringContaining('SIGKILL') },
      { engine: 'onnx-cpu', microBatch: 2, because: expect.stringContaining('going on with 2') },
    ]);
    const resumed = lines.filter(({ event }) => event === 'resumed').map(({ step }) => step);
    expect(resumed.every((step) => step % EVERY === 0)).toBe(true);
    const [end, expected] = [lines.at(-1)!, straight.lines.at(-1)!];
    expect(end).toMatchObject({ event: 'trained', step: STEPS, tokens: expected.tokens });
    // The same batches, added up in other parts.
    expect(end.loss).toBeCloseTo(expected.loss as number, 2);
  },
);
