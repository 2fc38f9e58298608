import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { absoluteBase, baseFolder } from '../../../cli/base-model.ts';
import type { Context } from '../../../cli/context.ts';
import { failureOf } from '../../../cli/errors.ts';
import { hubSettings } from '../../../cli/hub-settings.ts';
import { readJobFile } from '../../../cli/job-file.ts';
import { createProgram } from '../../../cli/program.ts';
import { parseConfigFile } from '../../../cli/train/config-file.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { COMMIT, type HubWorld, hubWorld, impatientClock, NAME } from '../../utils/hub-world.ts';

describe('a base model is', () => {
  it('a folder that is there, whatever it is called', async () => {
    const cwd = await temporaryFolder();
    await mkdir(join(cwd, NAME), { recursive: true });
    const { context } = fakeContext({ cwd });
    expect(await baseFolder(context, NAME)).toBe(join(cwd, NAME));
    expect(absoluteBase(NAME, cwd)).toBe(join(cwd, NAME));
  });

  it('else a name on the hub; paths that begin like paths are never looked for there', async () => {
    const cwd = await temporaryFolder();
    expect(absoluteBase(NAME, cwd)).toBe(NAME);
    const { context } = fakeContext({ cwd, environment: { HF_ENDPOINT: 'http://127.0.0.1:9' } });
    for (const text of [`./${NAME}`, join(cwd, 'away'), 'away', 'a/b/c']) {
      await expect(baseFolder(context, text), text).rejects.toMatchObject({ code: 'MODEL_DIR' });
    }
  });

  it('called neither, where a mistyped path was taken for a name', async () => {
    const { context } = fakeContext({ cwd: await temporaryFolder(), environment: { HF_HUB_OFFLINE: '1' } });
    await expect(baseFolder(context, 'models/nanno')).rejects.toThrow(
      /^models\/nanno is not a folder here, and /,
    );
  });

  it('in a job or config file, relative to the file or on the hub', async () => {
    const dir = await temporaryFolder();
    await writeFile(join(dir, 'data.txt'), 'text');
    const file = join(dir, 'job.yaml');
    const text = (base: string): string => `name: x\nbase: ${base}\ndata: { train: data.txt }\n`;
    await writeFile(file, text('ada/tiny@v1'));
    expect((await readJobFile(file)).base).toBe('ada/tiny@v1');
    expect(parseConfigFile(text('ada/tiny'), file).base).toBe('ada/tiny');
    expect(parseConfigFile(text('./ada/tiny'), file).base).toBe(join(dir, 'ada/tiny'));
    await writeFile(file, text('./ada/tiny'));
    await expect(readJobFile(file)).rejects.toMatchObject({ code: 'JOB_PATH_MISSING' });
  });
});

describe('the hub is set up by the variables of other tools', () => {
  const home = '/home/ada';

  it('with their defaults', async () => {
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
  ])('the cache: %j', async (environment, cacheDir) => {
    expect(await hubSettings({ HOME: home, ...environment }, '/cwd')).toMatchObject({ cacheDir });
  });

  it('the token, from the variable or the file that logging in writes', async () => {
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

  it('offline, and the endpoint', async () => {
    const environment = { HF_HUB_OFFLINE: 'yes', HF_ENDPOINT: 'https://mirror.example/hub/' };
    const settings = { offline: true, endpoint: 'https://mirror.example/hub' };
    expect(await hubSettings(environment, '/')).toMatchObject(settings);
    expect(await hubSettings({ TRANSFORMERS_OFFLINE: '1' }, '/')).toMatchObject({ offline: true });
    expect(await hubSettings({ HF_HUB_OFFLINE: '0' }, '/')).toMatchObject({ offline: false });
    await expect(hubSettings({ HF_ENDPOINT: 'huggingface' }, '/')).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('a command with a model from the hub', () => {
  let world: HubWorld;
  let environment: Record<string, string>;
  beforeEach(async () => {
    world = await hubWorld();
    environment = {
      HF_ENDPOINT: world.hub.endpoint,
      HF_HUB_CACHE: world.cacheDir,
      SWARM_CACHE: await temporaryFolder(),
    };
  });

  const generate = ['generate', '--model', NAME, '--prompt', 'it was', '--max-tokens', '2', '--json'];
  const run = async (context: Context): Promise<void> => {
    await createProgram(context).parseAsync(generate, { from: 'user' });
  };

  it('fetches it, with progress, and uses it', async () => {
    const { context, out, err } = fakeContext({ environment });
    await run(context);
    expect(JSON.parse(out())).toMatchObject({ prompt: 'it was', tokens: 2 });
    expect(err()).toMatch(/config\.json {2}0 B of /);
  });

  it('says what it goes on with when the network is gone', async () => {
    await world.fetch();
    await world.hub.stop();
    const { context, out, err } = fakeContext({ environment });
    await run(context);
    expect(out()).not.toBe('');
    expect(err()).toContain(COMMIT);
  });

  it.each([
    ['a wrong name', () => world.hub.models.clear(), 'HUB_NOT_FOUND', 4],
    ['a gated model', () => Object.assign(world.model, { gated: true, token: 'x' }), 'HUB_GATED', 5],
    ['no network', () => world.hub.stop(), 'HUB_UNREACHABLE', 7],
  ])('ends on %s with its own code', async (_, spoil, code, exit) => {
    await spoil();
    const { context } = fakeContext({ environment, clock: impatientClock });
    const error: unknown = await run(context).catch((caught: unknown) => caught);
    expect(failureOf(error)).toMatchObject({ code, exitCode: exit, next: expect.any(String) });
  });
});
