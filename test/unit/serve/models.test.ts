import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { type AdapterSource, folderSource } from '../../../serve/models/adapter-source.ts';
import { eventually } from '../../utils/eventually.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { testServer } from './server.ts';

const digestOf = (letter: string): string => letter.repeat(64);

/** An adapter with tags that the test moves. The folder of a version is its digest. */
function taggedSource(name: string, tags: Record<string, string>): AdapterSource {
  const version = (letter: string) => ({
    digest: digestOf(letter),
    folder: async () => `/${name}/${letter}`,
  });
  return {
    name,
    origin: 'test',
    async find(choice) {
      if (choice === null) return version(tags.latest!);
      if ('tag' in choice) return tags[choice.tag] === undefined ? null : version(tags[choice.tag]!);
      const letter = Object.values(tags).find((letter) => digestOf(letter).startsWith(choice.digest));
      return letter === undefined ? null : version(letter);
    },
  };
}

describe('the models of a server', () => {
  it('are the base and its adapters, with parent and root', async () => {
    const { ask, refused } = await testServer({ adapters: [taggedSource('tale', { latest: 'a' })] });
    const { data } = await ask('/v1/models');
    expect(data).toMatchObject([
      { id: 'nano', object: 'model', parent: null, root: 'nano', max_model_len: 512 },
      { id: 'tale', parent: 'nano', root: `tale@${digestOf('a')}` },
    ]);
    expect(await ask('/v1/models/tale:latest')).toMatchObject({ id: 'tale:latest', parent: 'nano' });
    expect(await ask('/v1/models/base')).toMatchObject({ id: 'base', root: 'nano' });
    expect((await refused('/v1/models/tale:none')).code).toBe('model_not_found');
  });

  it('are named by base, adapter, tag and digest', async () => {
    const source = taggedSource('tale', { latest: 'a', best: 'b' });
    const { ask, refused, generator } = await testServer({ adapters: [source] });
    const complete = async (model: string) => {
      const { system_fingerprint } = await ask('/v1/completions', { model, prompt: 'x', max_tokens: 1 });
      return [system_fingerprint, generator.submitted.at(-1)!.adapter];
    };
    expect(await complete('nano')).toEqual([null, undefined]);
    expect(await complete('base')).toEqual([null, undefined]);
    for (const name of ['tale', 'tale:latest', `tale@${digestOf('a')}`, digestOf('a'), 'tale@aaaaaaaa']) {
      expect(await complete(name), name).toEqual([digestOf('a'), '/tale/a']);
    }
    expect(await complete('tale:best')).toEqual([digestOf('b'), '/tale/b']);
    for (const model of ['tale:none', 'none', 'tale@cccccccc', digestOf('c'), 'tale@']) {
      const { status } = await refused('/v1/completions', { model, prompt: 'x' });
      expect(status, model).toBe(404);
    }
  });

  it('follow a tag that moves, while running requests keep their version', async () => {
    const tags = { latest: 'a', next: 'c' };
    const { promise, resolve } = Promise.withResolvers<void>();
    const { ask, generator } = await testServer({
      adapters: [taggedSource('tale', tags)],
      maxAdapters: 2,
      beforeToken: ({ adapter }) => (adapter === '/tale/a' ? promise : undefined),
    });
    const body = { model: 'tale', prompt: 'x', max_tokens: 2 };
    const first = ask('/v1/completions', body);
    await eventually(() => generator.submitted.length === 1);
    tags.latest = 'b';
    expect((await ask('/v1/completions', body)).system_fingerprint).toBe(digestOf('b'));
    expect(generator.loaded).toContain('/tale/a');
    resolve();
    expect((await first).system_fingerprint).toBe(digestOf('a'));
    // Neither version is in use now. The version that was requested first makes room for the third.
    await ask('/v1/completions', { ...body, model: 'tale:next' });
    expect([...generator.loaded].toSorted()).toEqual(['/tale/b', '/tale/c']);
  });

  it('are refused with 503 while requests use all places in memory', async () => {
    const letters = ['a', 'b', 'c', 'd', 'e', 'f'];
    const tags = { latest: 'a', ...Object.fromEntries(letters.map((letter) => [letter, letter])) };
    const { promise, resolve } = Promise.withResolvers<void>();
    const options = { adapters: [taggedSource('tale', tags)], maxAdapters: 2, beforeToken: () => promise };
    const { send, ask, generator } = await testServer(options);
    const body = { prompt: 'x', max_tokens: 1 };
    const answers = letters.map((letter) => send('/v1/completions', { ...body, model: `tale:${letter}` }));
    const refused = Promise.all(answers.map(async (answer) => (await answer).status === 503));
    await eventually(() => generator.submitted.length === 2);
    // Requests for an adapter in use are answered.
    const [inUse] = generator.loaded;
    const more = ask('/v1/completions', { ...body, model: `tale:${inUse!.at(-1)}` });
    await eventually(() => generator.submitted.length === 3);
    expect(generator.loaded.size).toBe(2);
    resolve();
    expect((await refused).filter(Boolean)).toHaveLength(4);
    await more;
    await ask('/v1/completions', { ...body, model: 'tale:f' });
    expect(generator.loaded.size).toBe(2);
  });

  it('can be added and removed by their name in the registry, never by a path', async () => {
    const registry = async (name: string) => (name === 'tale' ? taggedSource(name, { latest: 'a' }) : null);
    const { ask, refused } = await testServer({ registry });
    const load = '/v1/load_lora_adapter';
    const path = await refused(load, { lora_name: 'tale', lora_path: '/etc' });
    expect(path).toMatchObject({ status: 400, param: 'lora_path' });
    const unknown = await refused(load, { lora_name: '../tale' });
    expect(unknown).toMatchObject({ status: 404, message: expect.stringContaining('adapter list') });
    await ask(load, { lora_name: 'tale' });
    await ask(load, { lora_name: 'tale' });
    await ask('/v1/completions', { model: 'tale', prompt: 'x', max_tokens: 1 });
    await ask('/v1/unload_lora_adapter', { lora_name: 'tale' });
    expect((await refused('/v1/completions', { model: 'tale', prompt: 'x' })).status).toBe(404);
    expect((await refused('/v1/unload_lora_adapter', { lora_name: 'tale' })).status).toBe(404);
  });

  it('cannot be removed by a client if the operator chose them', async () => {
    const tale = taggedSource('tale', { latest: 'a' });
    const { ask, refused } = await testServer({ adapters: [tale], registry: async () => tale });
    // A client that loads the adapter again still may not remove it.
    await ask('/v1/load_lora_adapter', { lora_name: 'tale' });
    const error = await refused('/v1/unload_lora_adapter', { lora_name: 'tale' });
    expect(error).toMatchObject({ status: 403, code: 'model_fixed' });
    await ask('/v1/completions', { model: 'tale', prompt: 'x', max_tokens: 1 });
  });

  it('leave out an adapter that cannot be read, and say so in the log', async () => {
    const warn = vi.fn();
    let isBroken = false;
    const good = taggedSource('good', { latest: 'a' });
    const source = taggedSource('bad', { latest: 'b' });
    const bad: AdapterSource = {
      ...source,
      find: async (choice) => {
        if (isBroken) throw new Error('the folder is gone');
        return source.find(choice);
      },
    };
    const { ask, refused } = await testServer({ adapters: [bad, good], log: { ...silentLogger, warn } });
    isBroken = true;
    const { data } = await ask('/v1/models');
    expect(data.map(({ id }: { id: string }) => id)).toEqual(['nano', 'good']);
    expect(warn).toHaveBeenCalledWith(expect.objectContaining({ name: 'bad' }), 'adapter-unreadable');
    const request = { prompt: 'x', max_tokens: 1 };
    await ask('/v1/completions', { ...request, model: digestOf('a') });
    expect((await refused('/v1/completions', { ...request, model: digestOf('b') })).status).toBe(404);
    expect((await refused('/v1/completions', { ...request, model: 'bad' })).status).toBe(500);
  });

  it('have different names', async () => {
    const adapters = [taggedSource('nano', { latest: 'a' })];
    await expect(testServer({ adapters })).rejects.toMatchObject({ code: 'MODEL_NAME_TAKEN' });
  });
});

it('a folder of an adapter is a new version when its files change', async () => {
  const dir = join(await temporaryFolder(), 'adapter');
  await mkdir(dir);
  const write = (text: string) =>
    Promise.all(
      ['adapter_config.json', 'adapter_model.safetensors'].map((file) => writeFile(join(dir, file), text)),
    );
  await write('one');
  const source = folderSource('tale', dir);
  const first = (await source.find(null))!;
  expect(await source.find(null)).toBe(first);
  expect(await source.find({ digest: first.digest.slice(0, 8) })).toBe(first);
  expect(await source.find({ tag: 'latest' })).toBeNull();
  await write('other');
  expect((await source.find(null))!.digest).not.toBe(first.digest);
});
