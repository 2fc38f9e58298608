import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { adapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import type { Row } from '../../lora/data/row.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { processorCompute } from '../../lora/train/compute.ts';
import { trainingConfigSchema } from '../../lora/train/config.ts';
import { freshOptimizer } from '../../lora/train/optimizer/optimizer-state.ts';
import type { TrainerOptions } from '../../lora/train/process/messages.ts';
import { TrainerProcess } from '../../lora/train/process/supervisor.ts';
import { writeRandomModel } from './base-bits-model.ts';

const NANO = join(import.meta.dirname, '../../models/nano');
const SHAPE = { batchSize: 4, microBatch: 4, sequenceLength: 128 };
/**
 * Number of rounds before memory is measured, of one job alone and then of two jobs in turns. No garbage collection is
 * forced in these rounds, so the heap of the process grows as it does in a node.
 */
const WARM_UP_ROUNDS = 4;
/** Number of measured rounds of one job alone, and then of two jobs in turns. */
const ROUNDS = 4;
/** Time that a process gets to collect its garbage, in milliseconds. */
const COLLECT_MS = 1_000;
const COLLECTOR = pathToFileURL(join(import.meta.dirname, 'collect-garbage.ts')).href;
/** Bytes of a token in a row: its id, label and segment. */
const TOKEN_BYTES = 10;

type Job = Pick<TrainerOptions, 'lora' | 'training'>;

/** The cost of a second job in a trainer process. */
export interface Switching {
  /**
   * Anonymous memory of the process with two jobs, minus its anonymous memory with the first job alone. Memory is
   * measured after each round and a garbage collection, and the highest value counts.
   */
  readonly extraBytes: number;
  /**
   * Target for `extraBytes`: the total size of the second job's adapter, of the optimiser's two moments for each
   * value of this adapter, and of the rows of a round.
   */
  readonly allowedBytes: number;
  /** Seconds that a round of one step takes if the previous round was of the same job. */
  readonly same: number;
  /** Seconds that a round of one step takes if the previous round was of the other job. */
  readonly changed: number;
}

/**
 * Trains rounds of one job, and then rounds of two jobs in turns, in one process.
 * @param ranks `first` and `second`: ranks of the jobs. If `second` is null, the first job trains all rounds, which shows
 *   how much a process grows without a second job
 */
export async function measureSwitching(
  modelDir: string,
  { first, second }: { first: number; second: number | null },
  folder: string,
): Promise<Switching> {
  const model = await openBase(modelDir);
  const jobs = [first, second ?? first].map(
    (rank, i): Job => ({
      lora: loraConfig({ rank, alpha: 32 }),
      training: trainingConfigSchema.parse({ ...SHAPE, learningRate: 1e-3 * (i + 1), seed: i }),
    }),
  );
  const compute = processorCompute({ threads: 1 });
  const before = process.env.NODE_OPTIONS;
  process.env.NODE_OPTIONS = `--import ${COLLECTOR}`;
  const trainer = await TrainerProcess.start({
    modelDir,
    cacheDir: join(folder, 'cache'),
    ...jobs[0]!,
    compute,
  });
  if (before === undefined) delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = before;
  try {
    const { vocabularySize } = model.config;
    /** Trains a round. Returns its duration in seconds. */
    const round = async (job: Job): Promise<number> => {
      const startedAt = performance.now();
      await trainer.turnTo({ ...job, checkpointing: false });
      const adapter = initialMatrices(trainer.layout, 1);
      const rows = Array.from({ length: SHAPE.batchSize }, (_, i) => row(vocabularySize, i));
      await trainer.train({ adapter, rows, steps: 1, optimizer: freshOptimizer(trainer.layout) });
      return (performance.now() - startedAt) / 1000;
    };
    /** Trains rounds of the given jobs in turns. Returns the shortest duration and the most memory of a round. */
    const measure = async (some: readonly Job[]): Promise<{ seconds: number; bytes: number }> => {
      const jobOf = (i: number): Job => some[i % some.length]!;
      for (let i = 0; i < WARM_UP_ROUNDS; i++) await round(jobOf(i));
      let seconds = Number.POSITIVE_INFINITY;
      let bytes = 0;
      for (let i = 0; i < ROUNDS; i++) {
        seconds = Math.min(seconds, await round(jobOf(i)));
        bytes = Math.max(bytes, await anonymousBytes(trainer.pid!));
      }
      return { seconds, bytes };
    };
    const values = adapterSize(adapterLayout(model, jobs[1]!.lora));
    const alone = await measure([jobs[0]!]);
    const both = await measure(second === null ? [jobs[0]!] : jobs);
    return {
      extraBytes: both.bytes - alone.bytes,
      allowedBytes: 3 * 4 * values + SHAPE.batchSize * SHAPE.sequenceLength * TOKEN_BYTES,
      same: alone.seconds,
      changed: both.seconds,
    };
  } finally {
    await trainer.stop();
  }
}

/** Returns the folder of the measured base: the 135M shape, or models/nano for a quick run. */
export async function baseToSwitch(folder: string, quick: boolean): Promise<string> {
  if (quick) return NANO;
  const dir = join(folder, '135m');
  await mkdir(dir);
  return writeRandomModel(dir, '135m');
}

function row(vocabularySize: number, seed: number): Row {
  const at = (t: number) => ((seed + t) * 7919) % vocabularySize;
  const length = SHAPE.sequenceLength;
  return {
    ids: Uint32Array.from({ length }, (_, t) => at(t)),
    labels: Int32Array.from({ length }, (_, t) => at(t + 1)),
    segments: new Uint16Array(length).fill(1),
  };
}

/**
 * Returns the resident memory of a process after a garbage collection (Linux only). Pages of mapped files, such as the
 * file of weights, do not count, because the number of these pages in memory depends on the other programs on the
 * machine.
 */
async function anonymousBytes(pid: number): Promise<number> {
  process.kill(pid, 'SIGUSR2');
  await setTimeout(COLLECT_MS);
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/RssAnon:\s+(\d+)/.exec(status)![1]);
}
