/** Limits, cancelled requests and the end of a server. */
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
    expect(refusal('b', 2)).toMatchObject({ code: 'SERVE_TOO_MANY' });
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
