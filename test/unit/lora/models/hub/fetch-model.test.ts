import { lstat, mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openBase } from '../../../../../lora/models/base/base-model.ts';
import { etagOf } from '../../../../utils/registry/hub-server.ts';
import { COMMIT, type HubWorld, hubWorld, NAME } from '../../../../utils/registry/hub-world.ts';

let world: HubWorld;
beforeEach(async () => {
  world = await hubWorld();
});

const repository = (): string => join(world.cacheDir, 'models--ada--tiny');
const WEIGHTS = /^\/cdn\/.*safetensors/;
const weights = (): Buffer => world.model.files.get('model.safetensors')!;
const blobOf = (content: Buffer): string =>
  join(repository(), 'blobs', etagOf(content, world.model.largeFrom));

describe('a model from a hub', () => {
  it('is stored in the layout of the shared cache, without pickles', async () => {
    const dir = await world.fetch();
    expect(dir).toBe(join(repository(), 'snapshots', COMMIT));
    expect((await readdir(dir)).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    for (const file of await readdir(dir)) {
      const content = world.model.files.get(file)!;
      expect(await readFile(join(dir, file))).toEqual(content);
      expect((await lstat(join(dir, file))).isSymbolicLink()).toBe(true);
      const etag = etagOf(content, world.model.largeFrom);
      expect(await readlink(join(dir, file))).toBe(`../../blobs/${etag}`);
    }
    expect(await readFile(join(repository(), 'refs/main'), 'utf8')).toBe(COMMIT);
    expect((await readdir(join(repository(), '.no_exist', COMMIT))).sort()).toEqual([
      'additional_chat_templates',
      'chat_template.jinja',
      'generation_config.json',
      'model.safetensors.index.json',
      'special_tokens_map.json',
    ]);
    expect((await readdir(join(repository(), 'blobs'))).every((name) => /^[0-9a-f]+$/.test(name))).toBe(true);
    await expect(openBase(dir)).resolves.toMatchObject({ config: { family: 'llama' } });
  });

  it('is fetched once: after that a branch needs one request, a commit none', async () => {
    const dir = await world.fetch();
    world.hub.requests.length = 0;
    expect(await world.fetch()).toBe(dir);
    expect(world.hub.requests).toHaveLength(1);
    expect(await world.fetch(`${NAME}@${COMMIT}`)).toBe(dir);
    expect(world.hub.requests).toHaveLength(1);
  });

  it('shares files between commits', async () => {
    await world.fetch();
    world.model.commit = 'b'.repeat(40);
    world.hub.requests.length = 0;
    expect(await world.fetch()).toBe(join(repository(), 'snapshots', 'b'.repeat(40)));
    expect(world.hub.downloads()).toEqual([]);
  });

  it('is completed if another tool fetched only a part, but used unchanged offline', async () => {
    const dir = await world.fetch();
    await rm(join(repository(), '.no_exist'), { recursive: true });
    expect(await world.fetch(`${NAME}@${COMMIT}`, { offline: true })).toBe(dir);
    const template = Buffer.from('{{ messages }}');
    world.model.files.set('chat_template.jinja', template);
    await world.fetch(`${NAME}@${COMMIT}`);
    expect(await readFile(join(dir, 'chat_template.jinja'))).toEqual(template);
  });

  it('can consist of shards', async () => {
    const { files } = world.model;
    const all = files.get('model.safetensors')!;
    files.delete('model.safetensors');
    files.set('part-1.safetensors', all);
    const size = Number(all.readBigUInt64LE());
    const header = JSON.parse(all.subarray(8, 8 + size).toString()) as Record<string, unknown>;
    const names = Object.keys(header).filter((name) => name !== '__metadata__');
    const map = Object.fromEntries(names.map((name) => [name, 'part-1.safetensors']));
    files.set('model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map: map })));
    const dir = await world.fetch();
    await expect(openBase(dir)).resolves.toMatchObject({ dir });
    world.hub.requests.length = 0;
    await world.fetch(`${NAME}@${COMMIT}`);
    expect(world.hub.requests).toEqual([]);
  });

  it('prefers a single file of weights to shards, like transformers', async () => {
    const index = { weight_map: { x: 'away.safetensors' } };
    world.model.files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index)));
    const dir = await world.fetch();
    await expect(openBase(dir)).resolves.toMatchObject({ dir });
    world.hub.requests.length = 0;
    await world.fetch(`${NAME}@${COMMIT}`);
    expect(world.hub.requests).toEqual([]);
  });

  it('includes the chat template for tools, but no other file of subfolders', async () => {
    const template = Buffer.from('{{ tools }}');
    world.model.files.set('additional_chat_templates/tool_use.jinja', template);
    world.model.files.set('additional_chat_templates/rag.jinja', Buffer.from('{{ documents }}'));
    world.model.files.set('onnx/model.safetensors', Buffer.from('another'));
    const dir = await world.fetch();
    const folder = join(dir, 'additional_chat_templates');
    expect(await readdir(folder)).toEqual(['tool_use.jinja']);
    expect(await readFile(join(folder, 'tool_use.jinja'))).toEqual(template);
    expect(await readdir(dir)).not.toContain('onnx');
    world.hub.requests.length = 0;
    await world.fetch(`${NAME}@${COMMIT}`);
    expect(world.hub.requests).toEqual([]);
  });

  it('reports progress up to the total size', async () => {
    await world.fetch();
    const last = world.progress.at(-1)!;
    expect(last).toMatchObject({ file: 'model.safetensors', done: last.total });
    expect(last.total).toBeGreaterThan(weights().length);
    const done = world.progress.map((progress) => progress.done);
    expect(done).toEqual([...done].sort((a, b) => a - b));
  });

  it('sends the token only to the hub', async () => {
    world.model.token = 'secret';
    await world.fetch(NAME, { accessToken: 'secret' });
    world.hub.requests.forEach((line, i) => {
      expect(world.hub.authorizations[i], line).toBe(line.includes('/cdn/') ? undefined : 'Bearer secret');
    });
    expect(world.hub.requests.some((line) => line.includes('/cdn/'))).toBe(true);
  });
});

describe('a connection that breaks', () => {
  /** Breaks the connection after half of the weights. */
  const cut = (): void =>
    world.hub.fault(WEIGHTS, (response) => {
      response.writeHead(200, { 'content-length': weights().length });
      response.write(weights().subarray(0, weights().length / 2), () => response.destroy());
    });

  it('is resumed where it stopped', async () => {
    cut();
    const dir = await world.fetch();
    expect(await readFile(join(dir, 'model.safetensors'))).toEqual(weights());
    expect(world.hub.requests.filter((line) => WEIGHTS.test(line.split(' ')[1]!)).at(-1)).toMatch(
      / bytes=\d+-$/,
    );
  });

  it('is resumed by the next run', async () => {
    cut();
    world.hub.fault(/./, (response) => response.destroy(), Number.POSITIVE_INFINITY);
    const refuseAll = world.hub.faults.pop()!;
    let broken = false;
    world.hub.faults.push((request, response) => {
      broken ||= WEIGHTS.test(request.url!);
      return broken && refuseAll(request, response);
    });
    await expect(world.fetch()).rejects.toMatchObject({ code: 'HUB_UNREACHABLE' });
    const partial = `${blobOf(weights())}.incomplete`;
    const { size } = await stat(partial);
    expect(size).toBeGreaterThan(0);
    world.hub.faults.length = 0;
    world.hub.requests.length = 0;
    const dir = await world.fetch();
    expect(world.hub.requests.at(-1)).toBe(`GET /cdn/${NAME}/model.safetensors bytes=${size}-`);
    expect(await readFile(join(dir, 'model.safetensors'))).toEqual(weights());
    await expect(stat(partial)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it.each([
    ['has other content', (): Buffer => Buffer.alloc(1000, 7)],
    ['is too long', (): Buffer => Buffer.concat([weights(), Buffer.from('more')])],
    ['is complete', (): Buffer => weights()],
  ])('a partial file that %s is replaced by the right content', async (_, content) => {
    await mkdir(join(repository(), 'blobs'), { recursive: true });
    await writeFile(`${blobOf(weights())}.incomplete`, content());
    expect(await readFile(join(await world.fetch(), 'model.safetensors'))).toEqual(weights());
  });

  it('starts again if the hub does not support ranges', async () => {
    cut();
    world.hub.faults.push((request, response) => {
      if (!WEIGHTS.test(request.url!) || request.headers.range === undefined) return false;
      response.writeHead(200, { 'content-length': weights().length }).end(weights());
      return true;
    });
    expect(await readFile(join(await world.fetch(), 'model.safetensors'))).toEqual(weights());
  });

  it('stops on abort and keeps the bytes received', async () => {
    const controller = new AbortController();
    world.hub.fault(WEIGHTS, (response) => {
      response.writeHead(200, { 'content-length': weights().length });
      response.write(weights().subarray(0, 4096));
    });
    const reason = new Error('enough');
    let calls = 0;
    const onProgress = ({ file }: { file: string }): void => {
      // The first call reports the bytes that were already present.
      if (file === 'model.safetensors' && ++calls === 2) controller.abort(reason);
    };
    const fetched = world.fetch(NAME, { signal: controller.signal, onProgress });
    await expect(fetched).rejects.toBe(reason);
    await expect(world.fetch()).resolves.toContain(COMMIT);
  });
});
