import { engineError } from './errors.ts';
import { ENGINE_LIST, ENGINE_NAMES, type EngineName } from './names.ts';
import { createOnnxEngine } from './onnx/engine.ts';
import type { Engine, EngineOptions } from './types.ts';

export type { Feeds } from './feeds.ts';
export { ENGINE_NAMES, type EngineName } from './names.ts';
export type { Engine, EngineOptions, Executable } from './types.ts';
export type { WeightFile } from './weights.ts';

/**
 * Creates the engine of this name.
 * @throws SwarmError ENGINE_UNKNOWN when no engine has this name, ENGINE_THREADS, ENGINE_UNAVAILABLE when this machine
 * lacks what the engine needs (`next` says how to get it)
 */
export async function createEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  if (!ENGINE_NAMES.includes(name)) {
    throw engineError(
      'ENGINE_UNKNOWN',
      `there is no engine ${name}`,
      { name },
      { next: `use ${ENGINE_LIST}` },
    );
  }
  if (!Number.isInteger(options.threads) || options.threads < 1) {
    throw engineError(
      'ENGINE_THREADS',
      `an engine cannot use ${options.threads} threads; it needs a whole number of at least 1`,
      { threads: options.threads },
    );
  }
  if (name !== 'tfjs') return createOnnxEngine(name, options);
  // Imports these files here instead of at the top, so that only a run on tfjs waits for them.
  const [{ createTfjsEngine }, { findTensorFlow }] = await Promise.all([
    import('./tfjs/engine.ts'),
    import('./tfjs/packages.ts'),
  ]);
  return createTfjsEngine(await findTensorFlow({ threads: options.threads }));
}
