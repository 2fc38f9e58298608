import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import type { Logger } from '../../../../common/logger.ts';
import type { Clock } from '../../../../common/time/clock.ts';
import { GIVE_UP_MS } from '../../../../coordinator/webhooks/delivery.ts';
import { keyOf, newSecret } from '../../../../coordinator/webhooks/message.ts';
import { WEBHOOK_EVENTS } from '../../../../coordinator/webhooks/news.ts';
import { type Post, postOverHttp } from '../../../../coordinator/webhooks/post.ts';
import { QUEUE_MESSAGES } from '../../../../coordinator/webhooks/queue.ts';
import { shownUrl, type WebhookTarget } from '../../../../coordinator/webhooks/settings.ts';
import { Webhooks } from '../../../../coordinator/webhooks/webhooks.ts';
import type { JobEventBody } from '../../../../protocol/api/job-events.ts';
import { eventually } from '../../../utils/eventually.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';
import { World } from '../world.ts';

const SECRET = newSecret();
const PEER = signerOf(1).peerId;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Received {
  headers: IncomingHttpHeaders;
  body: string;
}

/** Starts a receiver. `answers` has the HTTP statuses of the first answers: 0 breaks the connection. */
async function receiver(answers: number[] = []) {
  const received: Received[] = [];
  const server: Server = createServer(async (request, response) => {
    received.push({ headers: request.headers, body: await text(request) });
    const status = answers.shift() ?? 204;
    if (status === 0) request.socket.destroy();
    else response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=hidden-token`;
  return { url, received };
}

function targetOf(url: string, changes: Partial<WebhookTarget> = {}): WebhookTarget {
  const key = keyOf(SECRET)!;
  return { id: url, url, shown: shownUrl(url), events: WEBHOOK_EVENTS, key, allowPrivate: true, ...changes };
}

/** A job on virtual time whose webhooks send real requests. */
async function setUp() {
  const world = await new World().start();
  const logged: string[] = [];
  const write = (fields: object, action: string): void =>
    void logged.push(JSON.stringify({ fields, action }));
  const log: Logger = { debug: write, info: write, warn: write, error: write, child: () => log };
  const open = (
    targets: readonly WebhookTarget[],
    post: Post = postOverHttp,
    clock: Clock = world.clock,
  ): Webhooks => {
    const { coordinator, store } = world;
    const webhooks = new Webhooks({ targets }, { coordinator, store, clock, log, post, version: '1.2.3' });
    const unsubscribe = coordinator.onEvent((event) => webhooks.observe(event));
    closers.push(() => webhooks.stop(), unsubscribe);
    webhooks.start();
    return webhooks;
  };
  const { job } = world.run.context;
  /** Records an event as if an earlier process had recorded it just before it was killed. */
  const record = (body: JobEventBody) => world.store.events.append(job, world.clock.now(), body);
  const queued = (target: WebhookTarget) => world.store.webhooks.count(target.id);
  return { world, logged, open, record, queued, job };
}

function banned(reason: string): JobEventBody {
  return { type: 'banned', peer: PEER, cause: 'operator', reason, until: null };
}

const neverAnswers: Post = ({ signal }) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });

describe('webhooks', () => {
  it('tell that a job was stopped and why, with a signature over id, time and body', async () => {
    const { world, open, job } = await setUp();
    const { url, received } = await receiver();
    open([targetOf(url)]);
    world.run.operate({ type: 'stop', reason: 'enough' });
    await eventually(() => received.length === 1);
    const { headers, body } = received[0]!;
    expect(JSON.parse(body)).toMatchObject({
      schemaVersion: 1,
      type: 'job-stopped',
      text: expect.stringContaining('enough'),
      data: { job, name: 'toy', round: 0, reason: 'enough' },
    });
    expect(headers['content-type']).toBe('application/json');
    expect(headers['user-agent']).toBe('lora-swarm/1.2.3');
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
    const expected = createHmac('sha256', keyOf(SECRET)!).update(signed).digest('base64');
    expect(headers['webhook-signature']).toBe(`v1,${expected}`);
    expect(Number(headers['webhook-timestamp'])).toBe(Math.floor(world.clock.now() / 1000));
  });

  it('are tried again with the same id after an error, a broken connection and a restart, and keep secrets out of logs', async () => {
    const { world, open, record, queued, logged } = await setUp();
    const { url, received } = await receiver([500, 0]);
    const target = targetOf(url);
    const first = open([target]);
    first.observe(record(banned('spam')));
    await eventually(() => received.length === 1 && logged.length === 1);
    expect(queued(target)).toBe(1);
    await world.pass(9_000);
    expect(received).toHaveLength(1);
    await world.pass(2_000);
    await eventually(() => received.length === 2 && logged.length === 2);

    await first.stop();
    const second = open([target]);
    await world.pass(21_000);
    await eventually(() => queued(target) === 0);
    expect(received).toHaveLength(3);
    const ids = received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(1);
    expect(new Set(received.map(({ headers }) => headers['webhook-signature'])).size).toBe(3);
    expect(JSON.parse(received[2]!.body)).toMatchObject({
      type: 'peer-banned',
      data: { peer: PEER, reason: 'spam' },
    });
    expect(second.views()).toMatchObject([{ queued: 0, last: { ok: true, status: 204 } }]);
    expect(logged.join()).toContain('webhook-failed');
    expect(logged.join()).not.toContain('hidden-token');
    expect(logged.join()).not.toContain(SECRET);
  });

  it('tell of events that a killed process had recorded but not queued, and of none twice', async () => {
    const { open, record, queued } = await setUp();
    const { url, received } = await receiver();
    const target = targetOf(url);
    record(banned('before the webhook existed'));
    await open([target]).stop();
    record(banned('unsent'));
    await open([target]).stop();
    open([target]);
    await eventually(() => received.length === 1 && queued(target) === 0);
    expect(received[0]!.body).toContain('unsent');
  });

  it('get only the types of messages that they ask for', async () => {
    const { world, open, record } = await setUp();
    const { url, received } = await receiver();
    const webhooks = open([targetOf(url, { events: ['job-stopped'] })]);
    webhooks.observe(record(banned('')));
    world.run.operate({ type: 'stop', reason: '' });
    await eventually(() => received.length === 1);
    expect(received[0]!.body).toContain('job-stopped');
  });

  it('keep a bounded queue: the oldest messages are dropped', async () => {
    const { open, record, queued, world } = await setUp();
    const target = targetOf('https://example.org/');
    const webhooks = open([target], neverAnswers);
    for (let i = 0; i < QUEUE_MESSAGES + 3; i++) webhooks.observe(record(banned(`ban ${i}`)));
    await eventually(() => queued(target) === QUEUE_MESSAGES);
    expect(world.store.webhooks.first(target.id)!.body).toContain('ban 3');
  });

  it('give up after three days', async () => {
    const { world, open, record, queued, logged } = await setUp();
    const target = targetOf('https://example.org/');
    let attempts = 0;
    const post: Post = async () => {
      attempts++;
      throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    };
    // The webhooks get a clock without the timers of the job, because a job sets thousands of timers in three days.
    const clock = new VirtualClock(world.clock.now());
    open([target], post, clock).observe(record(banned('')));
    await eventually(() => attempts === 1);
    await clock.run(() => queued(target) === 0, GIVE_UP_MS + 3_600_000);
    expect(queued(target)).toBe(0);
    expect(attempts).toBeGreaterThan(70);
    expect(attempts).toBeLessThan(90);
    expect(logged.at(-1)).toContain('webhook-given-up');
  });

  it('stop while a receiver does not answer, and keep the message', async () => {
    const { open, record, queued } = await setUp();
    const target = targetOf('https://example.org/');
    let waiting = false;
    const webhooks = open([target], (request) => {
      waiting = true;
      return neverAnswers(request);
    });
    webhooks.observe(record(banned('')));
    await eventually(() => waiting);
    await webhooks.stop();
    expect(queued(target)).toBe(1);
  });

  it('report the outcome of a test, which does not enter the queue', async () => {
    const { open, queued } = await setUp();
    const good = await receiver();
    const bad = await receiver([404]);
    const targets = [targetOf(good.url), targetOf(bad.url)];
    expect(await open(targets).test()).toMatchObject([
      { attempt: { ok: true, status: 204 } },
      { attempt: { ok: false, status: 404, reason: expect.stringContaining('404') } },
    ]);
    expect(JSON.parse(good.received[0]!.body)).toMatchObject({ type: 'test' });
    expect(targets.map(queued)).toEqual([0, 0]);
  });
});
