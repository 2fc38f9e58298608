import { mkdir, writeFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { availableMemory } from '../../../../../lora/train/memory/available-memory.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { pretendPlatform } from '../../../../utils/source/platform.ts';

const MiB = 2 ** 20;
/** Bytes of memory that Node.js reports in these tests. Every real machine has more. */
const SAID = 12_345;

beforeEach(() => {
  // On macOS, the function would ask the program vm_stat instead of Node.js.
  pretendPlatform('linux');
  const said = vi.spyOn(process, 'availableMemory').mockReturnValue(SAID);
  onTestFinished(() => said.mockRestore());
});

/** Makes a folder that stands for the root of a system with these files. */
async function system(files: Record<string, string>): Promise<string> {
  const root = await temporaryFolder();
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
  return root;
}

const group = (path: string, { max = 'max', high = 'max', current = 0, stat = '' }) => ({
  [`sys/fs/cgroup/${path}memory.max`]: `${max}\n`,
  [`sys/fs/cgroup/${path}memory.high`]: `${high}\n`,
  [`sys/fs/cgroup/${path}memory.current`]: `${current}\n`,
  [`sys/fs/cgroup/${path}memory.stat`]: stat,
});
const self = (path: string) => ({ 'proc/self/cgroup': `0::${path}\n` });
/** Makes the text of memory.stat. `file` also counts shared memory (999), which cannot be reclaimed. */
const stat = (active: number, inactive: number) =>
  `anon 1\nfile ${active + inactive + 999}\nshmem 999\ninactive_anon 5\nactive_file ${active}\ninactive_file ${inactive}\n`;

describe('the available memory', () => {
  it('is what Node.js reports if no control group limits it', async () => {
    expect(availableMemory(await system({}))).toBe(SAID);
    expect(availableMemory(await system({ ...self('/'), ...group('', {}) }))).toBe(SAID);
    const unlimited = { max: String(2 ** 62), current: 5 * MiB };
    expect(availableMemory(await system({ ...self('/'), ...group('', unlimited) }))).toBe(SAID);
    // A group without files about memory sets no limit. The topmost group of a machine has no such files.
    expect(availableMemory(await system(self('/user.slice/a')))).toBe(SAID);
  });

  it('in a container is its limit minus the memory in use, without cached pages of files', async () => {
    const used = { max: String(64 * MiB), current: 50 * MiB, stat: stat(8 * MiB, 30 * MiB) };
    expect(availableMemory(await system({ ...self('/'), ...group('', used) }))).toBe((64 - 50 + 38) * MiB);
    const full = { ...used, current: 65 * MiB, stat: stat(0, 0) };
    expect(availableMemory(await system({ ...self('/'), ...group('', full) }))).toBe(0);
    const slow = { ...used, high: String(60 * MiB) };
    expect(availableMemory(await system({ ...self('/'), ...group('', slow) }))).toBe((60 - 50 + 38) * MiB);
  });

  it('is the smallest amount that the group or one of its parents has left', async () => {
    const files = {
      ...self('/pod/app'),
      ...group('pod/app/', { max: String(64 * MiB), current: 10 * MiB, stat: stat(0, MiB) }),
      ...group('pod/', { max: String(80 * MiB), current: 70 * MiB, stat: stat(MiB, MiB) }),
      ...group('', {}),
    };
    expect(availableMemory(await system(files))).toBe(12 * MiB);
  });

  it("is that of the container if the group's own path is not visible", async () => {
    const limited = group('', { max: String(64 * MiB), current: 60 * MiB, stat: stat(0, 0) });
    for (const path of ['/docker/abc', '/../../elsewhere']) {
      expect(availableMemory(await system({ ...self(path), ...limited })), path).toBe(4 * MiB);
    }
  });

  it('is read from control groups of version 1, too', async () => {
    const at = 'sys/fs/cgroup/memory/docker/memory.';
    const files = {
      'proc/self/cgroup': '5:cpu,cpuacct:/x\n4:memory:/docker\n0::/\n',
      [`${at}limit_in_bytes`]: `${64 * MiB}\n`,
      [`${at}usage_in_bytes`]: `${60 * MiB}\n`,
      [`${at}stat`]: `inactive_file 1\ntotal_inactive_file ${20 * MiB}\ntotal_active_file ${2 * MiB}\n`,
    };
    expect(availableMemory(await system(files))).toBe(26 * MiB);
  });

  it('is never more than the machine has left', async () => {
    const half = { max: String(freemem() - MiB), current: 0, stat: stat(2 ** 50, 2 ** 50) };
    expect(availableMemory(await system({ ...self('/'), ...group('', half) }))).toBeLessThan(totalmem());
  });
});
