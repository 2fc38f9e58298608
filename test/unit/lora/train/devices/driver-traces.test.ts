import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { driverTraces } from '../../../../../lora/train/devices/driver-traces.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

it('changes with each GPU, Vulkan driver, library and variable, and only with these', async () => {
  const root = await temporaryFolder();
  let env: Record<string, string> = {};
  let before = await driverTraces({ root, env });
  const changed = async (change: () => unknown): Promise<boolean> => {
    await change();
    const now = await driverTraces({ root, env });
    const isChanged = JSON.stringify(now) !== JSON.stringify(before);
    before = now;
    return isChanged;
  };
  const write = async (name: string): Promise<void> => {
    const path = join(root, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, '');
  };
  for (const name of ['dev/dri/renderD128', 'dev/nvidia0', 'usr/share/vulkan/icd.d/lvp_icd.json'])
    expect(await changed(() => write(name)), name).toBe(true);
  expect(await changed(() => write('etc/ld.so.cache'))).toBe(true);
  expect(await changed(() => utimes(join(root, 'etc/ld.so.cache'), 1, 1))).toBe(true);
  for (const name of ['VK_DRIVER_FILES', 'CUDA_VISIBLE_DEVICES', 'LD_LIBRARY_PATH'])
    expect(await changed(() => (env = { ...env, [name]: '/opt' })), name).toBe(true);
  expect(await changed(() => (env = { EDITOR: 'vi', ...env }))).toBe(false);
  expect(await changed(() => write('dev/tty0'))).toBe(false);
});
