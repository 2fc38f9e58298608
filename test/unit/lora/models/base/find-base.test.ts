import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../../common/time/system-clock.ts';
import { readConfigFile } from '../../../../../lora/finetune/settings/config-file.ts';
import { readJobFile } from '../../../../../lora/finetune/settings/job-file.ts';
import { absoluteBase, findBase } from '../../../../../lora/models/base/find-base.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';
import { NAME } from '../../../../utils/registry/hub-world.ts';

const { signal } = new AbortController();

function find(base: string, folder: string, environment: Record<string, string> = {}): Promise<string> {
  const options = { base, folder, environment, signal, onProgress: () => {}, onNote: () => {} };
  return findBase(options, { fetch, clock: systemClock });
}

describe('a base model', () => {
  it('is the folder of that name if it exists', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, NAME), { recursive: true });
    expect(await find(NAME, folder)).toBe(join(folder, NAME));
    expect(absoluteBase(NAME, folder)).toBe(join(folder, NAME));
  });

  it('is otherwise a hub name, unless it looks like a path', async () => {
    const folder = await temporaryFolder();
    expect(absoluteBase(NAME, folder)).toBe(NAME);
    for (const base of [`./${NAME}`, join(folder, 'away'), 'away', 'a/b/c']) {
      const found = find(base, folder, { HF_ENDPOINT: 'http://127.0.0.1:9' });
      await expect(found, base).rejects.toMatchObject({ code: 'MODEL_DIR', values: { model: base } });
    }
  });

  it("that the hub does not have gives the hub's code, with the path in the message", async () => {
    const found = find('models/nanno', await temporaryFolder(), { HF_HUB_OFFLINE: '1' });
    await expect(found).rejects.toMatchObject({
      code: 'HUB_CACHE_MISSING',
      message: expect.stringMatching(/^models\/nanno /),
    });
  });

  it('in a job or config file is relative to that file, or a hub name', async () => {
    const dir = await temporaryFolder();
    await writeFile(join(dir, 'data.txt'), 'text');
    const file = join(dir, 'job.yaml');
    const text = (base: string): string => `name: x\nbase: ${base}\ndata: { train: data.txt }\n`;
    await writeFile(file, text('ada/tiny@v1'));
    expect((await readJobFile(file)).spec.base).toBe('ada/tiny@v1');
    expect((await readConfigFile(file)).layer.base).toBe('ada/tiny@v1');
    await writeFile(file, text('./ada/tiny'));
    expect((await readConfigFile(file)).layer.base).toBe(join(dir, 'ada/tiny'));
    await expect(readJobFile(file)).rejects.toMatchObject({ code: 'JOB_PATH_MISSING' });
  });
});
