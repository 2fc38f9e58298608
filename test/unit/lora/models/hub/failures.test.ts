import { chmod, mkdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../../../../common/time/clock.ts';
import { ANSWER_MS } from '../../../../../lora/models/hub/requests.ts';
import { IDLE_MS } from '../../../../../lora/models/hub/transfer.ts';
import { etagOf, refuse } from '../../../../utils/registry/hub-server.ts';
import {
  COMMIT,
  type HubWorld,
  hubWorld,
  impatientClock,
  NAME,
} from '../../../../utils/registry/hub-world.ts';

let world: HubWorld;
beforeEach(async () => {
  world = await hubWorld();
});

const code = (name: string, values: object = {}) => ({ code: name, values: expect.objectContaining(values) });
const ALWAYS = Number.POSITIVE_INFINITY;
const WEIGHTS = /^\/cdn\/.*safetensors/;

describe('a failed request has a code of its own', () => {
  it('HUB_NOT_FOUND for a wrong name, with and without a token', async () => {
    await expect(world.fetch('ada/other')).rejects.toMatchObject(
      code('HUB_NOT_FOUND', { name: 'ada/other' }),
    );
    const other = world.fetch('ada/other', { accessToken: 'secret' });
    await expect(other).rejects.toMatchObject(code('HUB_NOT_FOUND', { status: 404 }));
  });

  it('HUB_REVISION_NOT_FOUND for an unknown revision', async () => {
    await expect(world.fetch(`${NAME}@v9`)).rejects.toMatchObject(
      code('HUB_REVISION_NOT_FOUND', { revision: 'v9' }),
    );
    const commit = world.fetch(`${NAME}@${'c'.repeat(40)}`);
    await expect(commit).rejects.toMatchObject(code('HUB_REVISION_NOT_FOUND'));
  });

  it('HUB_GATED for a gated model, without a token (401) or without accepted terms (403)', async () => {
    Object.assign(world.model, { gated: true, token: 'accepted' });
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_GATED', { status: 401 }));
    const refused = world.fetch(NAME, { accessToken: 'another' });
    await expect(refused).rejects.toMatchObject(code('HUB_GATED', { status: 403 }));
    await expect(world.fetch(NAME, { accessToken: 'accepted' })).resolves.toContain(COMMIT);
  });

  it('HUB_UNAUTHORIZED for a token that the hub does not accept', async () => {
    world.hub.fault(/./, (response) => refuse(response, 401), ALWAYS);
    await expect(world.fetch(NAME, { accessToken: 'old' })).rejects.toMatchObject(code('HUB_UNAUTHORIZED'));
  });

  it('HUB_FILE_MISSING for a missing tokenizer, safetensors file or shard', async () => {
    const { files } = world.model;
    const take = (name: string): Buffer => {
      const content = files.get(name)!;
      files.delete(name);
      return content;
    };
    const weights = take('model.safetensors');
    await expect(world.fetch()).rejects.toMatchObject(
      code('HUB_FILE_MISSING', { file: 'model.safetensors' }),
    );
    const index = { weight_map: { x: 'away.safetensors' } };
    files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index)));
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_FILE_MISSING', { file: 'away.safetensors' }));
    files.set('model.safetensors', weights);
    take('tokenizer.json');
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_FILE_MISSING', { file: 'tokenizer.json' }));
  });

  it('MODEL_UNSUPPORTED for an unknown family, before weights are fetched', async () => {
    world.model.files.set('config.json', Buffer.from(JSON.stringify({ model_type: 'mixtral' })));
    await expect(world.fetch()).rejects.toMatchObject(code('MODEL_UNSUPPORTED'));
    expect(world.hub.downloads().some((line) => line.includes('safetensors'))).toBe(false);
  });

  it("HUB_RESPONSE for responses that are not a hub's", async () => {
    world.hub.fault(/revision/, (response) => response.end('<html>'), 1);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_RESPONSE'));
    world.hub.fault(/revision/, (response) => response.end('{"sha": 7}'), 1);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_RESPONSE'));
    world.hub.fault(/tree/, (response) => response.end('[{"path": "../x", "type": "file", "size": -1}]'), 1);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_RESPONSE'));
    world.hub.fault(/revision/, (response) => refuse(response, 418), 1);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_RESPONSE', { status: 418 }));
  });

  it('HUB_DAMAGED for content that twice does not match the hash', async () => {
    const wrong = Buffer.alloc(world.model.files.get('model.safetensors')!.length, 1);
    world.hub.fault(WEIGHTS, (response) => response.end(wrong), 2);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_DAMAGED', { file: 'model.safetensors' }));
    // After one mismatch, the second attempt succeeds.
    world.hub.fault(WEIGHTS, (response) => response.end(wrong), 1);
    await expect(world.fetch()).resolves.toContain(COMMIT);
  });
});

describe('a busy or broken hub', () => {
  it('is asked again after the pause that it asks for', async () => {
    const pauses: number[] = [];
    const clock: Clock = {
      ...impatientClock,
      after: (ms, callback) => {
        if (ms < ANSWER_MS) pauses.push(ms);
        return impatientClock.after(ms, callback);
      },
    };
    world.hub.fault(/revision/, (response) => response.writeHead(429, { 'retry-after': '7' }).end());
    world.hub.fault(/revision/, (response) => refuse(response, 503), 2);
    await expect(world.fetch(NAME, {}, { clock })).resolves.toContain(COMMIT);
    expect(pauses).toEqual([7000, 2000, 4000]);
  });

  it('is given up if it asks for too long a pause, or never recovers', async () => {
    world.hub.fault(/revision/, (response) => response.writeHead(429, { 'retry-after': '3600' }).end());
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_RATE_LIMITED', { seconds: 3600 }));
    expect(world.hub.requests).toHaveLength(1);
    world.hub.fault(/revision/, (response) => refuse(response, 500), ALWAYS);
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_UNAVAILABLE', { status: 500 }));
    expect(world.hub.requests).toHaveLength(6);
  });

  it('has a deadline for the first byte and for each next chunk', async () => {
    const deadlines: number[] = [];
    const running = new Set<() => void>();
    let [bytes, stalled] = [0, false];
    const clock: Clock = {
      ...impatientClock,
      after: (ms, callback) => {
        if (ms < ANSWER_MS) return impatientClock.after(ms, callback);
        deadlines.push(ms);
        running.add(callback);
        if (stalled && ms === IDLE_MS) {
          stalled = false;
          queueMicrotask(callback);
        }
        return () => running.delete(callback);
      },
    };
    // The first request gets no answer, so its deadline expires.
    world.hub.fault(/revision/, () => {
      for (const expire of running) expire();
    });
    // The weights stall after one byte, so the next deadline for a chunk expires.
    const first = world.model.files.get('model.safetensors')!.subarray(0, 1);
    world.hub.fault(WEIGHTS, (response) => response.writeHead(200, { 'content-length': 1e6 }).write(first));
    const onProgress = ({ done }: { done: number }): void => {
      stalled = done === bytes + 1;
      bytes = done;
    };
    await expect(world.fetch(NAME, { onProgress }, { clock })).resolves.toContain(COMMIT);
    expect(new Set(deadlines)).toEqual(new Set([ANSWER_MS, IDLE_MS]));
    expect(world.hub.requests.filter((line) => line.includes('/revision/'))).toHaveLength(2);
    expect(world.hub.requests.filter((line) => /\/cdn\/.*safetensors/.test(line))).toHaveLength(2);
  });
});

describe('without a network', () => {
  it('uses the last known commit of a branch, with a note and without waiting', async () => {
    const dir = await world.fetch();
    await world.hub.stop();
    expect(await world.fetch()).toBe(dir);
    expect(world.notes).toHaveLength(1);
    expect(world.notes[0]).toContain(COMMIT);
  });

  it('fails for a model that is not in the cache', async () => {
    await world.hub.stop();
    await expect(world.fetch()).rejects.toMatchObject(
      code('HUB_UNREACHABLE', { endpoint: world.hub.endpoint }),
    );
  });

  it('sends no request in offline mode', async () => {
    await expect(world.fetch(NAME, { offline: true })).rejects.toMatchObject(code('HUB_CACHE_MISSING'));
    const dir = await world.fetch();
    world.hub.requests.length = 0;
    expect(await world.fetch(NAME, { offline: true })).toBe(dir);
    await rm(join(dir, 'model.safetensors'));
    await expect(world.fetch(NAME, { offline: true })).rejects.toMatchObject(code('HUB_CACHE_MISSING'));
    expect(world.hub.requests).toEqual([]);
  });
});

describe('the disk', () => {
  it('is checked for space before weights are fetched', async () => {
    const free = async (): Promise<number> => 65 * 2 ** 20;
    const { files } = world.model;
    await expect(world.fetch(NAME, {}, { freeBytes: free })).resolves.toContain(COMMIT);
    world.model.commit = 'b'.repeat(40);
    files.set('model.safetensors', Buffer.alloc(2 * 2 ** 20));
    await expect(world.fetch(NAME, {}, { freeBytes: free })).rejects.toMatchObject(
      code('HUB_DISK_FULL', { needed: 2 * 2 ** 20, free: 65 * 2 ** 20 }),
    );
    expect(world.hub.downloads().filter((line) => line.includes('safetensors'))).toHaveLength(1);
  });

  // /dev/full is a device of Linux on which every write fails with ENOSPC.
  it.skipIf(process.platform !== 'linux')('may fill up during a transfer', async () => {
    const blobs = join(world.cacheDir, 'models--ada--tiny/blobs');
    await mkdir(blobs, { recursive: true });
    const etag = etagOf(world.model.files.get('model.safetensors')!, world.model.largeFrom);
    await symlink('/dev/full', join(blobs, `${etag}.incomplete`));
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_DISK_FULL'));
  });

  it("gives the system's error if it is not writable", async ({ skip }) => {
    if (process.getuid?.() === 0) skip();
    await chmod(world.cacheDir, 0o500);
    await expect(world.fetch()).rejects.toMatchObject({ code: 'EACCES' });
    await chmod(world.cacheDir, 0o700);
  });
});

describe('two processes', () => {
  const lock = (): string => join(world.cacheDir, '.locks/models--ada--tiny/lora-swarm.lock');

  it('do not fetch a model at the same time; the lock of a killed process is ignored', async () => {
    await mkdir(join(lock(), '..'), { recursive: true });
    await writeFile(lock(), JSON.stringify({ pid: process.pid, host: hostname() }));
    await expect(world.fetch()).rejects.toMatchObject(code('HUB_BUSY', { lock: lock() }));
    // No process has this id.
    await writeFile(lock(), JSON.stringify({ pid: 2 ** 30, host: hostname() }));
    await expect(world.fetch()).resolves.toContain(COMMIT);
    await expect(stat(lock())).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
