import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Vulkan drivers that compute on the processor: Mesa's and Chromium's. */
const SOFTWARE_DRIVERS = ['libvulkan_lvp', 'libvk_swiftshader'];

/**
 * Returns whether this process has loaded a known software driver on a machine without any GPU. Only Linux shows the
 * loaded libraries; on other systems the result is false.
 *
 * @param root folder that holds /proc and /dev. @default '/'
 */
export async function hasSoftwareDriver(root = '/'): Promise<boolean> {
  const maps = await readFile(join(root, 'proc/self/maps'), 'utf8').catch(() => '');
  if (!SOFTWARE_DRIVERS.some((name) => maps.includes(name))) return false;
  return (await gpuNames(root)).length === 0;
}

/** Returns the names of the GPUs in /dev, which only Linux has. */
export async function gpuNames(root: string): Promise<string[]> {
  const folders = ['dev', 'dev/dri'].map((path) => join(root, path));
  const devices = await Promise.all(folders.map((path) => readdir(path).catch(() => [])));
  return devices.flat().filter((name) => /^(renderD\d+|nvidia\d+|dxg)$/.test(name));
}
