import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, test } from 'vitest';
import { packageVersion } from '../../../../common/package.ts';
import {
  CONNECTIONS,
  limitConnections,
  NETWORK_CONNECTIONS,
  NETWORK_QUOTA,
  NETWORK_RECEIPTS_QUOTA,
  publicServer,
  startPublicServer,
} from '../../../../coordinator/public/server.ts';
import { listenerOf, type PublicPageOptions } from '../../../../coordinator/public/settings.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { verifyReceipts } from '../../../../verify/receipts.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { MemoryBlobs } from '../../../utils/virtual/memory-blobs.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World, type WorldOptions } from '../world.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function depsOf(world: World) {
  const { clock, store, disk, random } = world;
  const blobs = new MemoryBlobs({ disk, clock, random, isAlive: () => true });
  const network = world.network.host({ signer: COORDINATOR, blobs, isAlive: () => true });
  return { coordinator: world.coordinator, network, store, clock, log: silentLogger };
}

/** Limits the connections of a server. Returns a function that opens a connection. */
function connections() {
  const server = new EventEmitter();
  limitConnections({ server } as unknown as Parameters<typeof limitConnections>[0]);
  return (remoteAddress: string) => {
    const socket = Object.assign(new EventEmitter(), {
      remoteAddress,
      destroyed: false,
      destroy: () => {},
    });
    socket.destroy = () => {
      socket.destroyed = true;
      socket.emit('close');
    };
    server.emit('connection', socket);
    return socket;
  };
}

function page(world: World, options: Partial<PublicPageOptions> = {}) {
  const server = publicServer({ listen: '127.0.0.1:0', ...options }, depsOf(world));
  closers.push(() => server.close());
  return server;
}

/** Starts a coordinator in whose job two peers have made the first checkpoint. */
async function trainedWorld(options: WorldOptions = {}) {
  const world = new World({ rounds: { minPeers: 2 }, token: 'secret-token', ...options });
  const invite = options.admission?.kind === 'invite' ? 'secret-token' : null;
  const { peers, head } = await training(world, 2, invite);
  for (const peer of peers) await peer.submit(peer.seal(peer.update(head)));
  await world.until(() => world.run.record.checkpoint.ordinal === 1);
  return { world, peers };
}

/** The page of an open job says which parts of the job everyone can read. */
const EVERYONE_READS = /\bEveryone\b[^<]*\bread\b[^<]*\bdata\b/;

describe('the public page', () => {
  test('shows progress, losses, contributors and how to join, without a script', async () => {
    const { world, peers } = await trainedWorld();
    const { name } = world.run.context.stored;
    const answer = await page(world).inject(`/jobs/${name}`);
    expect(answer.statusCode).toBe(200);
    // Both commands work in a folder without lora-swarm, which is not on the npm registry.
    const file = `lora-swarm-${packageVersion()}.tgz`;
    expect(answer.body).toMatch(
      new RegExp(`<code>npm install ./${file}</code>\n<code>npx lora-swarm node swarm1\\w+</code>`),
    );
    expect((await page(world).inject('/style.css')).body).toMatch(/pre[^{]*code \{\s*user-select: all/);
    const asked = await page(world, { contact: 'ann@example.org' }).inject(`/jobs/${name}`);
    expect(asked.body).toMatch(new RegExp(`${file}[^]*ann@example.org`));
    expect(answer.body).toMatch(EVERYONE_READS);
    for (const peer of peers) expect(answer.body).toContain(`/jobs/${name}/receipts/${peer.id}.json`);
    expect(answer.body).toContain('50 %');
    expect(answer.body).not.toContain('<script');
    expect(answer.headers['content-security-policy']).toMatch(/^default-src 'none'; style-src 'self'/);
    expect(answer.headers['cache-control']).toBe('public, max-age=10');
    const again = await page(world).inject({
      url: `/jobs/${name}`,
      headers: { 'if-none-match': String(answer.headers.etag) },
    });
    expect(again.statusCode).toBe(304);
  });

  test('names the metric that decides which checkpoint is the best, and the loss of the initial adapter', async () => {
    const { world } = await trainedWorld({ baseLoss: 1.25 });
    const { job, stored } = world.run.context;
    const metric = { figure: 'words.acc,none', higherIsBetter: true };
    world.store.tasks.set(job, { files: [], every: 1, metric, limit: null });
    const { round } = world.run.record.checkpoint.checkpoint;
    const figures = { 'words.acc,none': 0.75 };
    world.store.tasks.add(job, { round, figures, score: 0.75, reason: '', seconds: 1, at: 0 });
    const { body } = await page(world).inject(`/jobs/${stored.name}`);
    expect(body).toContain(`round ${round}, words.acc 0.7500`);
    expect(body).toContain('initial adapter 1.2500');
  });

  test('escapes the name of a node', async () => {
    const { world, peers } = await trainedWorld();
    const { run } = world;
    Object.assign(run.members.list.get(peers[0]!.id)!, { name: '<img src=x onerror=alert(1)>"' });
    const { body } = await page(world).inject(`/jobs/${run.context.stored.name}`);
    expect(body).toContain('&lt;img src=x onerror=alert(1)&gt;&quot;');
    expect(body).not.toContain('<img');
  });

  test('offers the receipts of a node, which lora-swarm verify checks', async () => {
    const { world, peers } = await trainedWorld();
    const { job, stored } = world.run.context;
    const server = page(world);
    const { body, headers } = await server.inject(`/jobs/${stored.name}/receipts/${peers[0]!.id}.json`);
    expect(headers['content-disposition']).toContain('attachment');
    const about = { job, name: stored.name, coordinator: COORDINATOR.peerId, namesCoordinator: false };
    const report = { ...about, peer: peers[0]!.id };
    expect(verifyReceipts(body, { job })).toEqual({ ...report, updates: 1, rounds: [1, 1] });
    const file = JSON.parse(body) as { receipts: string[] };
    const changed = { ...file, peer: peers[1]!.id };
    expect(() => verifyReceipts(JSON.stringify(changed))).toThrow(withCode('VERIFY_RECEIPT', { receipt: 1 }));
    const twice = { ...file, receipts: [file.receipts[0], file.receipts[0]] };
    expect(() => verifyReceipts(JSON.stringify(twice))).toThrow(withCode('VERIFY_RECEIPT', { receipt: 2 }));
    const forged = { ...file, receipts: [file.receipts[0]!.replace(/.{8}$/, 'AAAAAAA=')] };
    expect(() => verifyReceipts(JSON.stringify(forged))).toThrow(withCode('VERIFY_RECEIPT', { receipt: 1 }));
    expect(() => verifyReceipts('{}')).toThrow(withCode('RECEIPTS_MALFORMED'));
    expect((await server.inject(`/jobs/${stored.name}/receipts/nobody.json`)).statusCode).toBe(404);
  });

  test('shows a job that needs an invite only if the operator names it, and never its invite', async () => {
    const { world } = await trainedWorld({ admission: { kind: 'invite' } });
    const { name } = world.run.context.stored;
    const open = page(world);
    expect((await open.inject(`/jobs/${name}`)).statusCode).toBe(404);
    expect((await open.inject('/')).body).not.toContain(name);
    const named = await page(world, { jobs: [name], contact: 'ann@example.org' }).inject(`/jobs/${name}`);
    expect(named.body).toContain('ann@example.org');
    expect(named.body).not.toMatch(EVERYONE_READS);
    expect(named.body).not.toContain('swarm1');
    expect(named.body).not.toContain('secret-token');
  });

  test('has no route of the control API, whatever the method', async () => {
    const { world } = await trainedWorld();
    const { job, stored } = world.run.context;
    const { url, server } = await startPublicServer({ listen: '127.0.0.1:0' }, depsOf(world));
    closers.push(() => server.close());
    const paths = [
      '/v1/status',
      '/v1/peers',
      `/v1/jobs/${job}`,
      `/v1/jobs/${stored.name}/events`,
      '/v1/shutdown',
    ];
    const others = [
      '/metrics',
      '/healthz',
      '/readyz',
      '/page/style.css',
      `/jobs/${stored.name}/../../v1/status`,
    ];
    for (const path of [...paths, ...others, `/jobs/${stored.name}/%2e%2e/%2e%2e/v1/status`, '//v1/status']) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
        const body = method === 'POST' ? '{}' : undefined;
        const headers = { authorization: 'Bearer any', ...(body && { 'content-type': 'application/json' }) };
        const answer = await fetch(url + path, { method, headers, ...(body && { body }) });
        expect([400, 404, 405, 413, 415], `${method} ${path}`).toContain(answer.status);
      }
    }
    const routes = server.printRoutes({ commonPrefix: false });
    expect(routes).not.toContain('POST');
    expect(routes).not.toContain('v1');
  });

  test('limits requests of an address, and keeps one address from using up the quota of others', async () => {
    const { world } = await trainedWorld();
    const server = page(world);
    const ask = async (remoteAddress: string): Promise<number> =>
      (await server.inject({ url: '/', remoteAddress })).statusCode;
    for (let i = 0; i < 120; i++) expect(await ask('192.0.2.1')).toBe(200);
    expect(await ask('192.0.2.1')).toBe(429);
    expect(await ask('192.0.2.2')).toBe(200);
    for (let i = 0; i < NETWORK_QUOTA.calls; i++) expect(await ask(`2001:db8:0:1::${i + 1}`)).toBe(200);
    expect(await ask('2001:db8:0:1:ffff::1'), 'an address of the same 64 bits').toBe(429);
    expect(await ask('2001:db8:0:2::1')).toBe(200);
  });

  test('keeps one network from using up the quota of receipts', async () => {
    const { world, peers } = await trainedWorld();
    const server = page(world);
    const url = `/jobs/${world.run.context.stored.name}/receipts/${peers[0]!.id}.json`;
    const ask = async (remoteAddress: string): Promise<number> =>
      (await server.inject({ url, remoteAddress })).statusCode;
    for (let i = 0; i < 100; i++) {
      expect(await ask('192.0.2.1')).toBe(i < NETWORK_RECEIPTS_QUOTA.calls ? 200 : 429);
    }
    expect(await ask('192.0.2.2')).toBe(200);
  });

  test('closes connections of a network that has too many', () => {
    const connect = connections();
    const sockets = Array.from({ length: NETWORK_CONNECTIONS }, (_, i) => connect(`2001:db8::${i + 1}`));
    expect(sockets.some(({ destroyed }) => destroyed)).toBe(false);
    expect(connect('2001:db8::ffff').destroyed).toBe(true);
    expect(connect('::ffff:192.0.2.1').destroyed).toBe(false);
    sockets[0]!.destroy();
    expect(connect('2001:db8::ffff').destroyed).toBe(false);
    expect(connect('2001:db8::ffff').destroyed).toBe(true);
    const local = Array.from({ length: NETWORK_CONNECTIONS + 1 }, () => connect('::ffff:127.0.0.1'));
    expect(local.some(({ destroyed }) => destroyed)).toBe(false);
  });

  test('gives a place to a network with few connections when others hold all places', () => {
    const connect = connections();
    const networks = CONNECTIONS / NETWORK_CONNECTIONS;
    const held = Array.from({ length: CONNECTIONS }, (_, i) => connect(`192.0.2.${i % networks}`));
    expect(held.some(({ destroyed }) => destroyed)).toBe(false);
    expect(connect('198.51.100.1').destroyed).toBe(false);
    expect(held.filter(({ destroyed }) => destroyed)).toHaveLength(1);
    expect(connect('198.51.100.2').destroyed).toBe(false);
    expect(held.filter(({ destroyed }) => destroyed)).toHaveLength(2);
  });
});

test.each([
  ['127.0.0.1:8080', { host: '127.0.0.1', port: 8080 }],
  ['[::1]:0', { host: '::1', port: 0 }],
  ['example.org:80', { host: 'example.org', port: 80 }],
  ['8080', null],
  ['127.0.0.1:99999', null],
  ['[127.0.0.1]:80', null],
  ['::1:80', null],
])('reads the listener %s', (text, listener) => {
  expect(listenerOf(text)).toEqual(listener);
});
