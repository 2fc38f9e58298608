import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { adapterSource } from '../../../../cli/serve/adapter-sources.ts';
import { apiKeys } from '../../../../cli/serve/api-keys.ts';
import { followSource } from '../../../../cli/serve/follow-source.ts';
import { followNote, networkSource } from '../../../../cli/serve/network-source.ts';
import { type AdapterFlags, servedAdapters } from '../../../../cli/serve/served-adapters.ts';
import { servedLine } from '../../../../cli/views/serve.ts';
import type { ApiClient } from '../../../../index.ts';
import { storageError } from '../../../../storage/errors.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { addSmall, BASE, openTestRegistry, smallPeftFolder } from '../../../utils/registry/registry.ts';

const [A, B] = ['first-key-of-a-client', 'second-key-of-a-client'];

describe('API keys of lora-swarm serve', () => {
  it('come from a file, the environment and the command line, which warns', async () => {
    const cwd = await temporaryFolder();
    await writeFile(join(cwd, 'keys'), `# keys\n${A}\n\n${B}\n`);
    const { context, err } = fakeContext({ cwd });
    expect(await apiKeys(context, { apiKeyFile: 'keys' })).toEqual([A, B]);
    expect(await apiKeys({ ...context, environment: { SWARM_API_KEY: A } }, {})).toEqual([A]);
    expect(await apiKeys(context, {})).toEqual([]);
    expect(err()).toBe('');
    expect(await apiKeys(context, { apiKey: B })).toEqual([B]);
    expect(err()).toContain('--api-key-file');
  });

  it('must be long, and a file must contain one', async () => {
    const cwd = await temporaryFolder();
    const { context } = fakeContext({ cwd });
    for (const text of ['', '# only a comment\n', 'short\n', `${A} ${B}\n`]) {
      await writeFile(join(cwd, 'keys'), text);
      const refused = apiKeys(context, { apiKeyFile: 'keys' });
      await expect(refused, text).rejects.toMatchObject({ code: 'API_KEYS_INVALID' });
    }
  });
});

describe('adapters of lora-swarm serve', () => {
  it('are folders with a name, folders, or versions of the registry', async () => {
    const { registry } = await openTestRegistry();
    const first = await addSmall(registry, 'tale', 1);
    const second = await addSmall(registry, 'tale', 2);
    await registry.tag('tale:v1', 'best', 'test');
    const dir = await smallPeftFolder(3);
    const options = { cwd: join(dir, '..'), base: { digest: BASE, dir: '/base' } };
    const open = (text: string) => adapterSource(text, options, { registry: async () => registry });
    expect(await open(`story=${dir}`)).toMatchObject({ name: 'story', origin: dir });
    expect(await open('adapter')).toMatchObject({ name: 'adapter', origin: dir });

    const tale = await open('tale');
    expect((await tale.find(null))!.digest).toBe(second.digest);
    expect((await tale.find({ tag: 'best' }))!.digest).toBe(first.digest);
    expect((await tale.find({ tag: 'v1' }))!.digest).toBe(first.digest);
    expect((await tale.find({ digest: first.digest.slice(0, 12) }))!.digest).toBe(first.digest);
    expect(await tale.find({ tag: 'none' })).toBeNull();
    expect(await (await tale.find(null))!.folder()).toBe(await registry.folder(second));
    const best = await open('tale:best');
    expect(best.name).toBe('tale');
    expect((await best.find(null))!.digest).toBe(first.digest);
    await registry.tag('tale:v2', 'best', 'test');
    expect((await best.find(null))!.digest).toBe(second.digest);
    await expect(open('../nowhere')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(open('story=nowhere')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(open('nothing')).rejects.toMatchObject({ code: 'VERSION_UNKNOWN' });
    await expect(open('tale:prod')).rejects.toMatchObject({
      code: 'TAG_UNKNOWN',
      next: expect.stringContaining('adapter list tale'),
    });

    const other = { ...options, base: { digest: 'f'.repeat(64), dir: '/other' } };
    const foreign = await adapterSource('tale', other, { registry: async () => registry });
    await expect(foreign.find(null)).rejects.toMatchObject({ code: 'ADAPTER_BASE' });
  });
});

it('an access line has status, model, tokens, time, speed and client, and cuts long texts', () => {
  const request = {
    method: 'POST',
    path: '/v1/completions',
    status: 200,
    client: 'key 1',
    model: 'tale:best',
    promptTokens: 1200,
    cachedTokens: 0,
    completionTokens: 41,
    firstTokenMs: 500,
    ms: 2_500,
  };
  const line = servedLine(request, 0);
  expect(line).toMatch(
    /200 .*POST \/v1\/completions .*tale:best .*1,200 \+ 41 tokens .*2\.5 s .*20\/s .*key 1$/,
  );
  const long = { ...request, path: `/${'x'.repeat(9_999)}`, model: '\u001b'.repeat(9_999) };
  expect(servedLine(long, 0).length).toBeLessThan(400);
  expect(servedLine(long, 0)).not.toContain('\u001b');
});

it('--follow serves the newest checkpoint of a job, also while its coordinator restarts', async () => {
  let now = 0;
  let round = 1;
  let away = false;
  const warnings: string[] = [];
  const view = (round: number) => ({
    round,
    kept: round > 0,
    digest: `d${round}`,
    path: `/checkpoints/${round}`,
  });
  const api = {
    job: async () => ({ name: 'tale' }),
    checkpoint: async (_: string, which: number | 'latest' | 'best') =>
      view(which === 'latest' ? round : which === 'best' ? 1 : which),
  } as unknown as ApiClient;
  const source = await followSource('ta', {
    open: async () => {
      if (away) throw storageError('DAEMON_NOT_RUNNING', 'no coordinator');
      return api;
    },
    now: () => now,
    onWarning: (text) => warnings.push(text),
  });
  const newest = async () => (await source.find(null))!.digest;
  expect(source.name).toBe('tale');
  expect(await newest()).toBe('d1');
  round = 2;
  now += 5_000;
  expect(await newest()).toBe('d2');
  expect(await (await source.find({ tag: '1' }))!.folder()).toBe('/checkpoints/1');
  expect(await source.find({ tag: 'none' })).toBeNull();
  expect((await source.find({ tag: 'best' }))!.digest).toBe('d1');
  expect((await source.find({ digest: 'd2' }))!.digest).toBe('d2');
  await expect(source.find({ tag: '0' })).rejects.toMatchObject({ code: 'CHECKPOINT_PRUNED' });
  away = true;
  now += 5_000;
  expect(await newest()).toBe('d2');
  expect(warnings).toHaveLength(1);
});

describe('--follow over the network', () => {
  const checkpoints = [2, 1].map((round) => ({ digest: `d${round}`, round, folder: `/followed/${round}` }));
  const source = networkSource({ name: 'tale', checkpoints });

  it('serves the checkpoints that are on this machine', async () => {
    const found = async (choice: Parameters<typeof source.find>[0]) => (await source.find(choice))?.digest;
    expect(source.name).toBe('tale');
    expect(await found(null)).toBe('d2');
    expect(await found({ tag: 'latest' })).toBe('d2');
    expect(await found({ tag: '1' })).toBe('d1');
    expect(await found({ digest: 'd1' })).toBe('d1');
    expect(await found({ tag: '0' })).toBeUndefined();
    expect(await (await source.find(null))!.folder()).toBe('/followed/2');
  });

  it('says what it waits for, and what it serves meanwhile', () => {
    const waiting = { type: 'waiting', reason: 'no route' } as const;
    expect(followNote(waiting, null)).toMatch(/no route/);
    expect(followNote(waiting, { name: 'tale', checkpoints })).toMatch(/tale.*round 2.*no route/);
    expect(followNote({ type: 'checkpoint', checkpoint: checkpoints[0]! }, null)).toMatch(/round 2/);
  });

  it('needs one job, and a coordinator for --job', async () => {
    const base = { digest: BASE, dir: '/base' };
    const open = (flags: AdapterFlags) =>
      servedAdapters(fakeContext().context, flags, base, async () => {
        throw new Error('no registry is needed');
      });
    const job = 'a'.repeat(64);
    await expect(open({ follow: 'tale', inviteFile: 'file' })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(open({ follow: 'tale', job })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(open({ follow: 'swarm1wrong' })).rejects.toMatchObject({ code: 'INVITE_INVALID' });
    expect((await open({})).sources).toEqual([]);
  });
});
