/**
 * Entry of the trainer process. Running the engine blocks the thread for the length of a step. Because the engine has a
 * separate process, it does not delay the daemon's heartbeats, and a crash costs one round instead of ending the node.
 */

import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { createEngine } from '../../engines/engine.ts';
import { requireFloat16 } from '../../engines/float16.ts';
import { undeletedLine } from '../../models/base/base-cleanup.ts';
import { openBase } from '../../models/base/base-model.ts';
import { damagedLine, prepareWeights } from '../../models/weights/prepare-weights.ts';
import { checkCompute } from '../compute.ts';
import { trainError } from '../errors.ts';
import { Trainer, type TrainerDeps, type TrainProgress } from '../trainer.ts';
import type { JobOfTrainer, ProcessUse, TrainerMethods, TrainerOptions } from './messages.ts';
import { TrainerProcess } from './supervisor.ts';

/** The parts that stay loaded when the process switches to another job. */
interface Loaded {
  readonly options: TrainerOptions;
  readonly deps: Omit<TrainerDeps, 'workers'>;
  /**
   * Trainers on all devices except the first. The list keeps a trainer that has failed, but its `alive` is
   * false.
   */
  readonly workers: readonly TrainerProcess[];
}

let loaded: Loaded | null = null;
let trainer: Trainer | null = null;

async function load(options: TrainerOptions, signal: AbortSignal): Promise<Loaded> {
  const { modelDir, cacheDir, compute } = options;
  const { threads, baseBits: bits, precision } = compute;
  checkCompute(compute);
  const model = await openBase(modelDir);
  const [{ engine: name, device }, ...others] = compute.devices;
  // Preparing the weights of a large base takes minutes. The engine is created first, so that a missing engine is
  // reported at once.
  const engine = await createEngine(name, { threads, device });
  if (precision === 'float16') await requireFloat16(engine);
  const weights = await prepareWeights(model, cacheDir, {
    bits,
    signal,
    onUndeleted: (undeleted) => console.error(undeletedLine(undeleted)),
    onDamaged: (path) => console.error(damagedLine(path)),
  });
  const workers: TrainerProcess[] = [];
  for (const other of others) {
    const alone = { ...options, compute: { ...compute, devices: [other] as const } };
    workers.push(await TrainerProcess.start(alone, { onLog: (line) => console.error(line), signal }));
  }
  const onLost: TrainerDeps['onLost'] = (name, error) => {
    const reason = error instanceof Error ? error.message : String(error);
    notify(`${name} failed: ${reason}; continuing without it`);
  };
  return { options, deps: { model, engine, weights, onLost }, workers };
}

/**
 * Switches to another job on the same base. If the job needs other graphs, the old graphs are released before the new
 * ones are compiled, because on a GPU and with 4 base bits each graph has its own copy of the weights.
 */
async function turnTo(job: JobOfTrainer): Promise<Trainer> {
  const { options, deps, workers } = loaded!;
  const { lora, training, checkpointing } = job;
  const current = started();
  const settings = { ...options, lora, training, compute: { ...options.compute, checkpointing } };
  const live = workers.filter(({ alive }) => alive);
  await Promise.all(live.map((worker) => worker.turnTo(job)));
  if (current.turnTo(settings)) return current;
  // The new trainer compiles its graphs only in its first round, after the old graphs have been released.
  const next = new Trainer(settings, { ...deps, workers: live });
  await current.dispose();
  return next;
}

function started(): Trainer {
  if (trainer === null) throw trainError('TRAINER_NOT_STARTED', 'the trainer has not been started');
  return trainer;
}

function processUse(): ProcessUse {
  const { user, system } = process.cpuUsage();
  return { cpuSeconds: (user + system) / 1e6, residentBytes: process.memoryUsage.rss() };
}

const notify = serveCalls<TrainerMethods>(
  {
    start: async (options, { signal }) => {
      loaded = await load(options, signal);
      trainer = new Trainer(options, { ...loaded.deps, workers: loaded.workers });
      return trainer.layout;
    },
    turnTo: async (job) => {
      trainer = await turnTo(job);
      return trainer.layout;
    },
    train: async (
      { adapter, optimizer, rows, steps, position },
      { signal, onProgress, resumed: beforeStep },
    ) => {
      const current = started();
      current.setParameters(adapter);
      if (optimizer !== null) current.setOptimizerState(optimizer);
      const report = (progress: TrainProgress): void => onProgress({ ...progress, use: processUse() });
      const request = {
        rows,
        steps,
        position: position ?? undefined,
        onProgress: report,
        signal,
        beforeStep,
      };
      const result = await current.train(request);
      return { ...result, adapter: current.parameters() };
    },
    trainPart: async ({ adapter, optimizer, rows, steps, position }, { signal }) => {
      const current = started();
      current.setParameters(adapter);
      current.setOptimizerState(optimizer);
      const made = { steps: 0, rows: 0, isComplete: true };
      const onProgress = (progress: TrainProgress): void => {
        made.steps = progress.step;
        made.rows = progress.rows;
      };
      await current.train({ rows, steps, position, onProgress, signal }).catch((error: unknown) => {
        if (!signal.aborted) throw error;
        made.isComplete = false;
      });
      return { ...made, adapter: current.parameters(), optimizer: current.optimizerState() };
    },
    gradients: (request, { signal }) => started().gradients(request, { signal }),
    evaluate: ({ adapter, rows }, { signal, onProgress }) => {
      const current = started();
      current.setParameters(adapter);
      return current.evaluate(rows, { signal, onProgress: () => onProgress(null) });
    },
    lossGradient: ({ adapter, rows }, { signal, onProgress }) => {
      const current = started();
      current.setParameters(adapter);
      return current.lossGradient(rows, { signal, onProgress: () => onProgress(null) });
    },
    snapshot: ({ adapter }) => {
      const current = started();
      return { optimizer: current.optimizerState(), adapter: adapter ? current.parameters() : null };
    },
    stop: async () => {
      await trainer?.dispose();
      // Disconnects after the reply. If the parent disconnected instead, Node.js would report no 'close' of the child.
      setImmediate(() => process.disconnect());
      return null;
    },
  },
  {
    channel: parentChannel(),
    failed: (message, options) => trainError('TRAINER_FAILED', message, {}, options),
    aborted: (message) => trainError('TRAINER_ABORTED', message),
  },
);
