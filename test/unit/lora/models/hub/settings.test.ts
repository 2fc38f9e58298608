import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { hubSettings } from '../../../../../lora/models/hub/settings.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

describe('the settings of the hub', () => {
  const home = '/home/ada';

  it('have defaults', async () => {
    expect(await hubSettings({ HOME: home }, '/')).toEqual({
      endpoint: 'https://huggingface.co',
      cacheDir: '/home/ada/.cache/huggingface/hub',
      accessToken: null,
      offline: false,
    });
  });

  it.each([
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ HF_HOME: '~/hf' }, '/home/ada/hf/hub'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [{ HF_HOME: '/hf', HF_HUB_CACHE: 'here', HUGGINGFACE_HUB_CACHE: '/old' }, '/cwd/here'],
  ])('take the cache folder from %j', async (environment, cacheDir) => {
    expect(await hubSettings({ HOME: home, ...environment }, '/cwd')).toMatchObject({ cacheDir });
  });

  it('take the token from HF_TOKEN, or from the file that logging in writes', async () => {
    const dir = await temporaryFolder();
    await writeFile(join(dir, 'token'), 'stored\n');
    expect(await hubSettings({ HF_HOME: dir }, '/')).toMatchObject({ accessToken: 'stored' });
    expect(await hubSettings({ HF_HOME: dir, HF_TOKEN: 'given' }, '/')).toMatchObject({
      accessToken: 'given',
    });
    await writeFile(join(dir, 'other'), 'other');
    const named = { HF_HOME: dir, HF_TOKEN_PATH: join(dir, 'other') };
    expect(await hubSettings(named, '/')).toMatchObject({ accessToken: 'other' });
  });

  it('take offline mode and the endpoint from variables', async () => {
    const environment = { HF_HUB_OFFLINE: 'yes', HF_ENDPOINT: 'https://mirror.example/hub/' };
    const settings = { offline: true, endpoint: 'https://mirror.example/hub' };
    expect(await hubSettings(environment, '/')).toMatchObject(settings);
    expect(await hubSettings({ TRANSFORMERS_OFFLINE: '1' }, '/')).toMatchObject({ offline: true });
    expect(await hubSettings({ HF_HUB_OFFLINE: '0' }, '/')).toMatchObject({ offline: false });
    await expect(hubSettings({ HF_ENDPOINT: 'huggingface' }, '/')).rejects.toMatchObject({ code: 'USAGE' });
  });
});
