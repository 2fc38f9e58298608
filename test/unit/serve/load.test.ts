/** Limits, cancelled requests and the end of a server. */
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { Admission } from '../../../serve/admission.ts';
import { eventually } from '../../utils/eventually.ts';
import { testServer } from './server.ts';

/** A barrier at which the tokens of a fake generator wait. */
function barrier() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { beforeToken: () => promise, open: resolve };
}

const body = { model: 'nano', prompt: 'x', max_tokens: 4 };

describe('limits of a server of models', () => {
  it('refuses a client with too many unanswered sequences with 429, and tells it when to come back', async () => {
    const { beforeToken, open } = barrier();
    const { refused, ask, generator } = await testServer({ beforeToken, maxUnansweredPerClient: 3 });
    const running = ask('/v1/completions', { ...body, n: 2 });
    await eventually(() => generator.submitted.length === 2);
    const { status, code, headers } = await refused('/v1/completions', { ...body, n: 2 });
    expect([status, code]).toEqual([429, 'rate_limit_exceeded']);
    expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    open();
    await running;
    await ask('/v1/completions', { ...body, n: 2 });
  });

  it('refuses a request that is too large even alone with 400, without a time to come back', async () => {
    const { refused } = await testServer({ maxUnansweredPerClient: 3 });
    const { status, headers } = await refused('/v1/completions', { ...body, n: 4 });
    expect([status, headers.get('retry-after')]).toEqual([400, null]);
    const small = await testServer({ maxUnanswered: 3 });
    expect((await small.refused('/v1/completions', { ...body, n: 4 })).status).toBe(400);
  });

  it('refuses requests beyond the limit of the server with 503', async () => {
    const { beforeToken, open } = barrier();
    const { refused, ask, generator } = await testServer({ beforeToken, maxUnanswered: 1 });
    const running = ask('/v1/completions', body);
    await eventually(() => generator.submitted.length === 1);
    const { status, headers } = await refused('/v1/completions', body);
    expect([status, headers.get('retry-after')]).toEqual([503, '1']);
    open();
    await running;
  });

  it('asks refused clients to wait about as long as a request takes, up to a minute', () => {
    let now = 0;
    const admission = new Admission({ perClient: 1, total: 2 }, { now: () => now });
    const answer = (ms: number): void => {
      const end = admission.admit('a', 1);
      now += ms;
      end();
      end();
    };
    answer(7_000);
    admission.admit('a', 1);
    const refusal = (client: string, sequences: number) => {
      try {
        admission.admit(client, sequences);
      } catch (error) {
        return error;
      }
      return null;
    };
    expect(refusal('a', 1)).toMatchObject({ code: 'SERVE_TOO_MANY', values: { retryAfter: 7 } });
    expect(refusal('b', 2)).toMatchObject({ code: 'SERVE_REQUEST', values: { limit: 1 } });
    admission.admit('b', 1);
    expect(refusal('c', 1)).toMatchObject({ code: 'SERVE_BUSY', values: { limit: 2 } });
    expect(admission.unanswered).toBe(2);
    const slow = new Admission({ perClient: 1, total: 1 }, { now: () => now });
    const end = slow.admit('a', 1);
    now += 900_000;
    end();
    slow.admit('a', 1);
    expect(() => slow.admit('a', 1)).toThrow(
      expect.objectContaining({ values: { limit: 1, retryAfter: 60 } }),
    );
  });
});

describe('a client that disconnects', () => {
  it.each([true, false])('stops the computation (stream: %s)', async (stream) => {
    let tokens = 0;
    const { send, generator, served } = await testServer({
      beforeToken: () => {
        tokens++;
        return new Promise(setImmediate);
      },
    });
    const leaving = new AbortController();
    const request = { ...body, stream, n: 2, max_tokens: 400 };
    const answer = send('/v1/completions', request, { signal: leaving.signal });
    if (stream) await (await answer).body!.getReader().read();
    await eventually(() => tokens > 4);
    leaving.abort();
    await answer.catch(() => {});
    await eventually(() => generator.cancelled() === 2);
    await eventually(() => served.length === 1);
    expect(served).toMatchObject([{ status: 499, model: 'nano' }]);
  });
});

/** Sends a request on a connection of its own. The test ends the connection. */
function rawRequest(url: string, path: string, request: object, times = 1): Socket {
  const text = JSON.stringify(request);
  const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.on('error', () => {});
  socket.write(`${head}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`.repeat(times));
  return socket;
}

describe('a client that disconnects before its answer starts', () => {
  const only = { maxUnanswered: 1, maxUnansweredPerClient: 1 };
  const chat = { model: 'nano', messages: [{ role: 'user', content: 'hi' }], max_tokens: 2, stream: true };

  it('keeps no place while its template is rendered', async () => {
    const { server, served, ask } = await testServer(only);
    // The first rendering starts a process, which takes far longer than it takes to see that the client is gone.
    const socket = rawRequest(server.url, '/v1/chat/completions', chat);
    socket.once('connect', () => setTimeout(() => socket.destroy(), 20));
    await eventually(() => served.length === 1);
    expect(served).toMatchObject([{ status: 499, client: '127.0.0.1' }]);
    await ask('/v1/chat/completions', { ...chat, stream: false });
    await ask('/v1/chat/completions', { ...chat, stream: false });
  });

  it('keeps no place while its adapter is loaded', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const find = { started: false, waits: false };
    const source = {
      name: 'tale',
      origin: 'test',
      find: async () => {
        find.started = true;
        if (find.waits) await promise;
        return { digest: 'a'.repeat(64), folder: async () => '/tale/a' };
      },
    };
    const { server, served, ask, generator } = await testServer({ ...only, adapters: [source] });
    Object.assign(find, { started: false, waits: true });
    const socket = rawRequest(server.url, '/v1/completions', { ...body, model: 'tale', stream: true });
    await eventually(() => find.started);
    socket.destroy();
    await eventually(() => served.length === 1);
    resolve();
    await new Promise(setImmediate);
    await ask('/v1/completions', body);
    expect(generator.submitted).toHaveLength(1);
  });

  it('keeps no place for a request that waits behind another on the same connection', async () => {
    const { beforeToken, open } = barrier();
    const limits = { maxUnanswered: 2, maxUnansweredPerClient: 2 };
    const { server, generator, served, ask } = await testServer({ ...limits, beforeToken });
    const socket = rawRequest(server.url, '/v1/completions', { ...body, stream: true }, 2);
    await eventually(() => generator.submitted.length === 2);
    socket.destroy();
    await eventually(() => served.length > 0);
    open();
    await eventually(() => generator.cancelled() === 2);
    await ask('/v1/completions', { ...body, n: 2 });
  });
});

describe('the end of a server', () => {
  it('lets running requests end, and refuses new ones', async () => {
    const { beforeToken, open } = barrier();
    const { server, ask, refused, generator } = await testServer({ beforeToken });
    const running = ask('/v1/completions', body);
    await eventually(() => generator.submitted.length === 1);
    const stopped = server.stop({ deadlineMs: 5_000 });
    expect(await refused('/health')).toMatchObject({ status: 503, code: 'server_stopping' });
    expect((await refused('/v1/completions', body)).status).toBe(503);
    open();
    expect((await running).choices[0].finish_reason).toBe('length');
    await stopped;
  });

  it('ends requests at the deadline with an error that a streaming client can read', async () => {
    const { server, send, generator } = await testServer({ beforeToken: () => new Promise(setImmediate) });
    const answer = send('/v1/completions', { ...body, stream: true, max_tokens: 500, ignore_eos: true });
    await eventually(() => generator.submitted.length === 1);
    await server.stop({ deadlineMs: 310 });
    const events = (await (await answer).text()).trim().split('\n\n');
    expect(JSON.parse(events.at(-2)!.replace('data: ', '')).error).toMatchObject({ code: 'server_stopping' });
    expect(events.at(-1)).toBe('data: [DONE]');
  });

  it('sends an error event when the computation fails in the middle of a stream', async () => {
    const { events } = await testServer({
      beforeToken: (_, position) => {
        if (position === 2) throw new Error('the graph is broken in /home/secret');
      },
    });
    const all = await events('/v1/completions', body);
    expect(all).toHaveLength(3);
    expect(all.at(-1)!.error).toMatchObject({ type: 'server_error' });
    expect(JSON.stringify(all)).not.toContain('secret');
  });
});
