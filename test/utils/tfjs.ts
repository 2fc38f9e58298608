/** The executor for TensorFlow.js on its backend in plain JavaScript: slow, and everywhere. */
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import type { Engine } from '../../lora/engines/engine.ts';
import { createTfjsEngine } from '../../lora/engines/tfjs/engine.ts';

export { tf };

export async function tfjsOnCpu(): Promise<Engine> {
  await tf.setBackend('cpu');
  return createTfjsEngine(tf);
}
