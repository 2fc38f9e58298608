/**
 * Entry of the generator process. The engine blocks its thread while it runs. In a separate process, the engine does
 * not delay a server's connections, and a crash of the engine does not end the server.
 */
import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { readPeftFolder } from '../../adapter/peft.ts';
import { createEngine } from '../../engines/engine.ts';
import { type OnUndeleted, undeletedLine } from '../../models/base/base-cleanup.ts';
import { type BaseModel, openBase } from '../../models/base/base-model.ts';
import { damagedLine, prepareWeights } from '../../models/weights/prepare-weights.ts';
import { prepareServingWeights } from '../../models/weights/serving-weights.ts';
import { servedAdapter } from '../adapters.ts';
import { DecodeModel } from '../decode-model.ts';
import { generateError } from '../errors.ts';
import { LoadedAdapters } from '../loaded-adapters.ts';
import { Scheduler } from '../scheduler.ts';
import type { GeneratorMethods, GeneratorProcessOptions } from './messages.ts';
import { readOnce } from './read-once.ts';

interface Started {
  readonly base: BaseModel;
  readonly model: DecodeModel;
  readonly scheduler: Scheduler;
  readonly adapters: LoadedAdapters;
}

let state: Started | null = null;

async function start(options: GeneratorProcessOptions, signal: AbortSignal): Promise<Started> {
  const { modelDir, cacheDir, threads, baseBits: bits, context, rows, waiting, cacheBytes } = options;
  const base = await openBase(modelDir);
  const onUndeleted: OnUndeleted = (undeleted) => console.error(undeletedLine(undeleted));
  const onDamaged = (path: string): void => console.error(damagedLine(path));
  // The file is read once, because the check of a large file takes seconds.
  const float32 = readOnce(() => prepareWeights(base, cacheDir, { onUndeleted, onDamaged }));
  const weights =
    bits === 32 ? await float32() : await prepareServingWeights(base, cacheDir, { bits, signal });
  const engine = await createEngine('onnx-cpu', { threads });
  const model = new DecodeModel(
    { model: base, weights, context },
    { compile: engine.compileDynamic!, float32 },
  );
  const { config } = base;
  const scheduler = new Scheduler(model, { config, context, rows, waiting, cacheBytes });
  const adapters = new LoadedAdapters(async (adapter) => {
    scheduler.forget(adapter);
    await model.forget(adapter);
  });
  return { base, model, scheduler, adapters };
}

function started(): Started {
  if (state === null) throw generateError('GENERATOR_FAILED', 'the generator has not been started');
  return state;
}

serveCalls<GeneratorMethods>(
  {
    start: async (options, { signal }) => {
      state = await start(options, signal);
      return null;
    },
    generate: ({ adapter, ...request }, { signal, onProgress }) => {
      const { scheduler, adapters } = started();
      return adapters.use(adapter, (used) =>
        scheduler.generate({ ...request, adapter: used }, onProgress, signal),
      );
    },
    score: ({ adapter, ...request }, { signal }) => {
      const { scheduler, adapters } = started();
      return adapters.use(adapter, (used) => scheduler.score({ ...request, adapter: used }, signal));
    },
    addAdapter: async ({ folder }) => {
      const { base, adapters } = started();
      const adapter = servedAdapter(base, await readPeftFolder(folder, base));
      adapters.add(adapter);
      return adapter.id;
    },
    removeAdapter: async ({ id }) => {
      await started().adapters.remove(id);
      return null;
    },
    status: () => {
      const { scheduler, adapters } = started();
      const { rss: memoryBytes } = process.memoryUsage();
      return { ...scheduler.status(), memoryBytes, adapters: adapters.ids };
    },
    stop: async () => {
      await state?.model.dispose();
      setImmediate(() => process.disconnect());
      return null;
    },
  },
  {
    channel: parentChannel(),
    concurrent: true,
    failed: (message, options) => generateError('GENERATOR_FAILED', message, {}, options),
  },
);
