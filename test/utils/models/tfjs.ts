/**
 * TensorFlow.js for tests: its backend in plain JavaScript, which is slow and runs everywhere, or real TensorFlow from the
 * folder that `.ci/real-tensorflow` prints, named by the variable TFJS_NATIVE_FOLDER.
 */
import { join } from 'node:path';
import type { Engine } from '../../../lora/engines/engine.ts';
import { createTfjsEngine } from '../../../lora/engines/tfjs/engine.ts';
import type { TensorFlow } from '../../../lora/engines/tfjs/lower.ts';
import { findTensorFlow } from '../../../lora/engines/tfjs/packages.ts';

const native = process.env.TFJS_NATIVE_FOLDER;
/** The name of the backend that the tests run on. */
const backend = native === undefined ? 'cpu' : 'tensorflow';

export const tf =
  native === undefined
    ? await plain()
    : await findTensorFlow({ threads: 2, from: join(native, 'package.json') });

async function plain(): Promise<TensorFlow> {
  await import('@tensorflow/tfjs-backend-cpu');
  return import('@tensorflow/tfjs-core');
}

export async function tfjsOnCpu(): Promise<Engine> {
  if (native === undefined) await tf.setBackend('cpu');
  if (tf.getBackend() !== backend) throw new Error(`tests of ${backend} run on ${tf.getBackend()}`);
  return createTfjsEngine(tf);
}
