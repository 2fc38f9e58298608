/** A server that follows a job over the network while the coordinator of the job is killed and starts again. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Daemon, TestSwarm } from './swarm.ts';

it('a server follows a job with only its invite', { timeout: 120_000 }, async () => {
  const swarm = await TestSwarm.create();
  const { folder } = swarm;
  const first = await (await swarm.coordinator()).ready();
  const rounds = { count: 1, minPeers: 1, localSteps: 5 };
  await swarm.createJob({ name: 'tale', admission: 'invite', rounds });

  const model = join(folder, 'model');
  const options = ['--follow', '-', '--model', model, '--port', '0', '--threads', '1', '--json'];
  // The server has its own folders, as on another machine.
  const environment = { XDG_CACHE_HOME: join(folder, 'cache'), XDG_DATA_HOME: join(folder, 'data') };
  const server = new Daemon('server', ['serve', ...options], environment, `${swarm.invite}\n`);
  const { url } = await server.line('ready', ({ event }) => event === 'ready');
  const fingerprint = async () => {
    const body = JSON.stringify({ model: 'tale', prompt: 'It was', max_tokens: 2 });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body });
    return ((await response.json()) as { system_fingerprint: string }).system_fingerprint;
  };
  const [initial] = await swarm.checkpoints();
  expect(await fingerprint()).toBe(initial!.digest);

  await first.kill();
  expect(await fingerprint()).toBe(initial!.digest);
  const second = await (await swarm.coordinator()).ready();
  swarm.node('otter');
  await swarm.untilFinished();
  const newest = (await swarm.checkpoints()).at(-1)!;
  expect(newest.round).toBeGreaterThan(0);
  await server.line('the last checkpoint', ({ digest }) => digest === newest.digest);
  expect(await fingerprint()).toBe(newest.digest);

  const followed = join(folder, 'cache', 'lora-swarm', 'followed');
  const [own] = await readdir(followed);
  const kept = (await readdir(join(followed, own!))).filter((name) => /^[0-9a-f]{64}$/.test(name));
  expect(kept).toContain(newest.digest);
  expect(kept.length).toBeLessThanOrEqual(2);
  expect((await server.interrupt()).code).toBe(0);
  expect(await readdir(followed)).toEqual([]);
  expect((await second.interrupt()).code).toBe(0);
});
