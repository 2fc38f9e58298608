/**
 * Entry of the trainer process. A run of the engine blocks its thread for the length of a step. In a process of its own
 * it does not stop the daemon's heartbeats, and a crash costs one round instead of the node.
 */

import { errorJson } from '../../common/errors.ts';
import { adapterSize } from '../adapter/layout.ts';
import { createEngine } from '../engines/engine.ts';
import { requireFloat16 } from '../engines/float16.ts';
import { openBase } from '../models/base-model.ts';
import { prepareWeights } from '../models/prepare-weights.ts';
import { checkCompute } from './compute.ts';
import { trainError } from './errors.ts';
import type { Abort, Event, Reply, Request, TrainerOptions } from './messages.ts';
import { TrainerProcess } from './supervisor.ts';
import { Trainer, type TrainProgress } from './trainer.ts';

let trainer: Trainer | null = null;
let queue: Promise<void> = Promise.resolve();
const running = new Map<number, AbortController>();

function send(message: Reply | Event): void {
  process.send?.(message);
}

async function start(options: TrainerOptions, signal: AbortSignal): Promise<Trainer> {
  const { modelDir, cacheDir, compute } = options;
  const { threads, baseBits: bits, precision } = compute;
  checkCompute(compute);
  const model = await openBase(modelDir);
  const [{ engine: name, device }, ...others] = compute.devices;
  // Before the weights, which take minutes for a large base: a missing engine fails at once.
  const engine = await createEngine(name, { threads, device });
  if (precision === 'float16') await requireFloat16(engine);
  const weights = await prepareWeights(model, cacheDir, { bits, signal });
  const workers: TrainerProcess[] = [];
  for (const other of others) {
    const alone = { ...options, compute: { ...compute, devices: [other] as const } };
    workers.push(await TrainerProcess.start(alone, { onLog: (line) => console.error(line), signal }));
  }
  return new Trainer(options, {
    model,
    engine,
    weights,
    workers,
    onLost: (name, error) => {
      const reason = error instanceof Error ? error.message : String(error);
      send({ type: 'notice', text: `${name} failed: ${reason}; continuing without it` });
    },
  });
}

function started(): Trainer {
  if (trainer === null) throw trainError('TRAINER_NOT_STARTED', 'the trainer has not been started');
  return trainer;
}

async function serve(request: Request, signal: AbortSignal): Promise<Reply> {
  const { id } = request;
  signal.throwIfAborted();
  switch (request.type) {
    case 'start': {
      trainer = await start(request.options, signal);
      const { layout } = trainer;
      return { type: 'ready', id, layout, parameters: adapterSize(layout) };
    }
    case 'train': {
      const current = started();
      current.setParameters(request.adapter);
      if (request.optimizer !== null) current.setOptimizerState(request.optimizer);
      const onProgress = (progress: TrainProgress) => send({ type: 'progress', id, progress });
      const { rows, steps, position } = request;
      const result = await current.train({
        rows,
        steps,
        position: position ?? undefined,
        onProgress,
        signal,
      });
      return { type: 'trained', id, result, adapter: current.parameters() };
    }
    case 'gradients':
      return { type: 'gradients', id, sums: await started().gradients(request, { signal }) };
    case 'evaluate': {
      const current = started();
      current.setParameters(request.adapter);
      return { type: 'evaluated', id, losses: await current.evaluate(request.rows, { signal }) };
    }
    case 'snapshot': {
      const current = started();
      const adapter = request.adapter ? current.parameters() : null;
      return { type: 'snapshot', id, optimizer: current.optimizerState(), adapter };
    }
    case 'stop':
      await trainer?.dispose();
      return { type: 'stopped', id };
  }
}

function failure(id: number, error: unknown): Reply {
  const aborted = error instanceof Error && error.name === 'AbortError';
  return { type: 'failed', id, error: errorJson(error, aborted ? 'TRAINER_ABORTED' : 'TRAINER_FAILED') };
}

process.on('message', (message: Request | Abort) => {
  if (message.type === 'abort') {
    running.get(message.id)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(message.id, controller);
  queue = queue.then(async () => {
    const reply = await serve(message, controller.signal).catch((error) => failure(message.id, error));
    running.delete(message.id);
    send(reply);
    if (reply.type === 'stopped') process.disconnect();
  });
});

// A trainer without its parent process has no purpose.
process.on('disconnect', () => process.exit(0));
// Ctrl-C reaches the whole process group; the parent decides when the trainer stops.
process.on('SIGINT', () => {});
