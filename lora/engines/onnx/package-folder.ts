import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Returns the folder in which onnxruntime-node is installed. Does not load its library. */
export function onnxruntimeFolder(): string {
  return join(dirname(createRequire(import.meta.url).resolve('onnxruntime-node')), '..');
}
