import Fastify, { type FastifyInstance } from 'fastify';
import { beforeEach, expect, it } from 'vitest';
import { onlyLoopbackNames, requireToken } from '../../../../monitor/loopback-server.ts';
import type { NodeControl } from '../../../../node/limits/node-control.ts';
import { addControlRoutes } from '../../../../node/limits/routes.ts';

let server: FastifyInstance;
let orders: unknown[];

beforeEach(() => {
  orders = [];
  server = Fastify();
  onlyLoopbackNames(server);
  requireToken(server, 'token');
  addControlRoutes(server, {
    limits: { threads: 2 },
    pause: async (forMs: number | null) => void orders.push({ forMs }),
    resume: async () => void orders.push('resume'),
    drain: () => void orders.push('drain'),
    setLimits: async (changes: object) => void orders.push(changes),
  } as unknown as NodeControl);
});

const send = (path: string, body: object, token = 'token') =>
  server.inject({
    method: 'POST',
    url: `/v1/${path}`,
    payload: body,
    headers: { authorization: `Bearer ${token}`, host: '127.0.0.1' },
  });

it('orders reach the node, and the answer has the limits', async () => {
  for (const [path, body] of [
    ['pause', { forMs: 60_000 }],
    ['pause', { forMs: null }],
    ['resume', {}],
    ['drain', {}],
    ['limits', { threads: 3, maxDiskBytes: null }],
  ] as const) {
    const answer = await send(path, body);
    expect(answer.statusCode, path).toBe(200);
    expect(answer.json()).toEqual({ limits: { threads: 2 } });
  }
  expect(orders).toEqual([
    { forMs: 60_000 },
    { forMs: null },
    'resume',
    'drain',
    { threads: 3, maxDiskBytes: null },
  ]);
});

it.each([
  ['pause', { forMs: -1 }, 'forMs is -1'],
  ['pause', {}, 'forMs is missing'],
  ['limits', { threads: 0 }, 'threads is 0'],
  ['limits', { hours: 'noon' }, 'hours is "noon"'],
  ['limits', { thread: 1 }, 'did you mean "threads"?'],
])('refuses %s %j, and names the field', async (path, body, problem) => {
  const answer = await send(path, body);
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining(problem),
    values: { field: Object.keys(body)[0] ?? 'forMs' },
    next: expect.any(String),
  });
  expect(orders).toEqual([]);
});

it('refuses an order without the token', async () => {
  expect((await send('drain', {}, 'other')).statusCode).toBe(401);
  expect(orders).toEqual([]);
});
