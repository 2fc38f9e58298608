import { createRequire } from 'node:module';
import util from 'node:util';
import type { SwarmError } from '../../../common/errors.ts';
import { engineError } from '../errors.ts';
import { setTensorFlowEnvironment } from './environment.ts';
import type { TensorFlow } from './lower.ts';

/** Packages that bring libtensorflow to Node.js, in order of preference. Both re-export all of tfjs-core. */
export const TENSORFLOW_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;

/** The version of both packages that this program uses. No later version has been published. */
const VERSION = '4.22.0';

/** Name under which both packages of TENSORFLOW_PACKAGES register their TensorFlow backend. */
const BACKEND = 'tensorflow';

export interface FindOptions {
  /** Number of threads that compute one operation. */
  threads: number;
  /**
   * File or URL from which the search for node_modules starts.
   * @default this file, from which the node_modules of the installation are found
   */
  from?: string;
}

/**
 * Loads TensorFlow.js with libtensorflow, from the first package of {@link TENSORFLOW_PACKAGES} that is installed and
 * loads.
 *
 * @throws SwarmError ENGINE_UNAVAILABLE when neither package is installed, or none of the installed ones loads
 */
export async function findTensorFlow({ threads, from = import.meta.url }: FindOptions): Promise<TensorFlow> {
  const require = createRequire(from);
  const failures: string[] = [];
  for (const name of TENSORFLOW_PACKAGES) {
    const path = installedAt(require, name);
    if (path === null) continue;
    try {
      restoreLegacyUtil();
      setTensorFlowEnvironment(threads);
      const tf = require(name) as TensorFlow;
      await tf.ready();
      if (tf.getBackend() === BACKEND) return tf;
      failures.push(`${name} uses the backend ${tf.getBackend()} instead of ${BACKEND}`);
    } catch (error) {
      failures.push(`${name}: ${oneLine(error)}`);
    }
    unregister(path);
  }
  throw failures.length === 0 ? notInstalled() : notLoaded(failures);
}

/** Returns the path of a package's main file, or null if the package is not installed. */
function installedAt(require: NodeJS.Require, name: string): string | null {
  try {
    return require.resolve(name);
  } catch {
    return null;
  }
}

/**
 * Removes the kernels and the backend that a failed package has registered. Both packages share tfjs-core, and each
 * registers its kernels before it loads its native add-on. Without the removal, the next package would print a warning
 * for each of about 150 kernels and would get the failed package's backend.
 */
function unregister(path: string): void {
  let tf: TensorFlow;
  try {
    tf = createRequire(path)('@tensorflow/tfjs') as TensorFlow;
  } catch {
    // The package depends on @tensorflow/tfjs. If that dependency is missing, the package failed before it
    // registered anything, so there is nothing to remove.
    return;
  }
  for (const { kernelName } of tf.getKernelsForBackend(BACKEND)) tf.unregisterKernel(kernelName, BACKEND);
  if (tf.findBackendFactory(BACKEND) !== null) tf.removeBackend(BACKEND);
}

/** Returns an error's message on one line. The packages' messages are several paragraphs long. */
function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s+/g, ' ').replace(/[ .]+$/, '');
}

/**
 * Returns the command that installs a package. Both packages are optional peer dependencies of lora-swarm, so plain
 * `npm install` in a checkout silently leaves them out.
 */
function installCommand(name: string): string {
  return `npm install --save-optional ${name}@${VERSION}`;
}

function notInstalled(): SwarmError {
  const [gpu, cpu] = TENSORFLOW_PACKAGES;
  const reason = 'no TensorFlow package is installed';
  const needs = `in the folder where lora-swarm is installed, run "${installCommand(gpu)}" (for an NVIDIA GPU with CUDA 11 and cuDNN 8) or "${installCommand(cpu)}" (for the processor)`;
  return engineError(
    'ENGINE_UNAVAILABLE',
    `tfjs does not run on this machine: ${reason}`,
    { engine: 'tfjs', packages: TENSORFLOW_PACKAGES, reason, needs },
    { next: `use --engine onnx-cpu, which runs on every machine; or ${needs}` },
  );
}

function notLoaded(failures: readonly string[]): SwarmError {
  const reason = `TensorFlow is installed but does not load: ${failures.join('; ')}`;
  const needs = 'see what the packages need in docs/engines.md, section "TensorFlow.js"';
  return engineError(
    'ENGINE_UNAVAILABLE',
    `tfjs does not run on this machine: ${reason}`,
    { engine: 'tfjs', failures, reason, needs },
    { next: `use --engine onnx-cpu, which runs on every machine; or ${needs}` },
  );
}

/**
 * Restores two functions of `util` that both packages call: `isNullOrUndefined`, which Node.js 23 removed, and
 * `isArray`, which is deprecated and prints a warning.
 */
function restoreLegacyUtil(): void {
  Object.assign(util, {
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
    isArray: Array.isArray,
  });
}
