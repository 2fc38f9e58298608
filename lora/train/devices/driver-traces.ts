import { readdir, stat } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { type Environment, processEnvironment } from '../../../common/environment.ts';
import { onnxruntimeFolder } from '../../engines/onnx/package-folder.ts';
import { gpuNames } from './software-driver.ts';

/** Folders in which Vulkan drivers register themselves. */
const VULKAN_DRIVERS = ['etc', 'usr/share', 'usr/local/share'].map((path) => join(path, 'vulkan/icd.d'));
/** Changes when a package with libraries is installed, such as a driver, the Vulkan loader, CUDA or cuDNN. */
const LIBRARIES = 'etc/ld.so.cache';
/** Environment variables that choose GPUs, drivers or the folders of libraries. */
const CHOOSING = /^(VK_|CUDA_|NVIDIA_|LD_LIBRARY_PATH$)/;

/**
 * Returns values that change when a GPU, a driver or a library of an engine is added or removed. Reads only a few
 * folders, so it misses changes outside Linux, except for an update of the system or of onnxruntime's files.
 * @param options `root`: the folder that holds /dev and /etc
 */
export async function driverTraces({
  root = '/',
  env = processEnvironment(),
}: {
  root?: string;
  env?: Environment;
} = {}): Promise<string[]> {
  const onnxruntime = join(onnxruntimeFolder(), 'bin');
  const files = [...VULKAN_DRIVERS.map((path) => join(root, path)), onnxruntime].map((path) =>
    // A machine without this kind of driver has no such folder.
    readdir(path, { recursive: true }).catch(() => []),
  );
  // Only Linux has this file.
  const libraries = await stat(join(root, LIBRARIES)).catch(() => null);
  const chosen = Object.entries(env).filter(([name]) => CHOOSING.test(name));
  return [
    release(),
    String(libraries?.mtimeMs),
    ...[await gpuNames(root), ...(await Promise.all(files)), chosen.map(String)].map((names) =>
      JSON.stringify(names.sort()),
    ),
  ];
}
