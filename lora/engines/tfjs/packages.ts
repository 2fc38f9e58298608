import { createRequire } from 'node:module';
import util from 'node:util';
import type { SwarmError } from '../../../common/errors.ts';
import { engineError } from '../errors.ts';
import type { TensorFlow } from './lower.ts';

/** Packages that bring libtensorflow to Node.js, the better one first. Both re-export all of tfjs-core. */
export const TENSORFLOW_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;

/** The name under which they register themselves. */
const BACKEND = 'tensorflow';

/**
 * TensorFlow.js with libtensorflow, from the first package of {@link TENSORFLOW_PACKAGES} that is installed and loads.
 *
 * @param from file or URL whose node_modules are searched. Default: this file's, so those of the installation.
 * @throws SwarmError ENGINE_UNAVAILABLE when neither is installed (the message has the command), or none loads (it has
 * their reasons)
 */
export async function findTensorFlow(from: string = import.meta.url): Promise<TensorFlow> {
  const require = createRequire(from);
  const failures: string[] = [];
  for (const name of TENSORFLOW_PACKAGES) {
    if (!isInstalled(require, name)) continue;
    try {
      restoreLegacyUtil();
      const tf = require(name) as TensorFlow;
      await tf.ready();
      if (tf.getBackend() === BACKEND) return tf;
      failures.push(`${name} came up with the backend ${tf.getBackend()}`);
    } catch (error) {
      failures.push(`${name}: ${oneLine(error)}`);
    }
  }
  throw failures.length === 0 ? notInstalled() : notLoaded(failures);
}

function isInstalled(require: NodeJS.Require, name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}

/** Their advice comes in paragraphs, and ends in the full stop that the sentence around it has too. */
function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s+/g, ' ').replace(/[ .]+$/, '');
}

function notInstalled(): SwarmError {
  const [gpu, cpu] = TENSORFLOW_PACKAGES;
  return engineError(
    'ENGINE_UNAVAILABLE',
    `the engine tfjs needs TensorFlow: run "npm install ${gpu}" (NVIDIA GPU with CUDA 11 and cuDNN 8) or "npm install ${cpu}" (processor), beside lora-swarm; onnx-cpu needs neither`,
    { engine: 'tfjs', packages: TENSORFLOW_PACKAGES },
  );
}

function notLoaded(failures: readonly string[]): SwarmError {
  return engineError(
    'ENGINE_UNAVAILABLE',
    `TensorFlow is installed for the engine tfjs and does not load: ${failures.join('; ')}. docs/engines.md says what it needs; onnx-cpu runs everywhere`,
    { engine: 'tfjs', failures },
  );
}

/**
 * Both packages (4.22.0, their last) call two functions of `util` as if they were there: `isNullOrUndefined`, which
 * Node.js 23 removed, and `isArray`, which warns and is next.
 */
function restoreLegacyUtil(): void {
  Object.assign(util, {
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
    isArray: Array.isArray,
  });
}
