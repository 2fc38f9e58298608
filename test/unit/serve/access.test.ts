import { request as httpRequest } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { describe, expect, it } from 'vitest';
import { Access } from '../../../serve/http/access.ts';
import { BODY_BYTES } from '../../../serve/http/fields.ts';
import { startModelServer } from '../../../serve/model-server.ts';
import { fakeGenerator } from '../../utils/models/fake-generator.ts';
import { testServer } from './server.ts';

/** Sends a request with this Host header, which `fetch` does not allow. */
function statusFor(url: string, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    httpRequest(`${url}/v1/models`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    })
      .on('error', reject)
      .end();
  });
}

const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });

it('knows the client of a request even after its connection has ended', () => {
  const access = new Access({ keys: [], origins: [], loopback: true });
  const request = { ip: '192.0.2.1' as string | undefined };
  const clientOf = () => access.clientOf(request as FastifyRequest);
  expect(clientOf()).toBe('192.0.2.1');
  request.ip = undefined;
  expect(clientOf()).toBe('192.0.2.1');
  expect(access.clientOf({} as FastifyRequest)).toBe('unknown');
});

describe('access to a server of models', () => {
  it('needs one of the keys, if there are keys; only /health answers without a key', async () => {
    const { refused, send, served } = await testServer({ keys: ['first-key', 'second-key'] });
    for (const init of [
      undefined,
      bearer(''),
      bearer('wrong'),
      { headers: { authorization: 'first-key' } },
    ]) {
      const { status, code, headers } = await refused('/v1/models', undefined, init);
      expect([status, code, headers.get('www-authenticate')]).toEqual([401, 'invalid_api_key', 'Bearer']);
    }
    expect((await refused('/metrics')).status).toBe(401);
    expect((await refused('/nothing')).status).toBe(401);
    expect((await send('/v1/models', undefined, bearer('second-key'))).status).toBe(200);
    expect((await send('/health')).status).toBe(200);
    expect(served.map(({ client }) => client)).toContain('key 2');
  });

  it('takes any key without keys of its own, because clients always send one', async () => {
    const { send } = await testServer();
    for (const init of [{}, bearer(''), bearer('sk-anything')]) {
      expect((await send('/v1/models', undefined, init)).status).toBe(200);
    }
  });

  it('refuses foreign host names on loopback without a key (DNS rebinding)', async () => {
    const { server } = await testServer();
    expect(await statusFor(server.url, 'evil.example')).toBe(403);
    expect(await statusFor(server.url, 'localhost:99')).toBe(200);
    const { server: keyed } = await testServer({ keys: ['a-key'] });
    expect(await statusFor(keyed.url, 'evil.example')).toBe(401);
  });

  it('refuses to listen on other addresses than loopback without a key', async () => {
    const generator = await fakeGenerator();
    const start = (host: string) => startModelServer({ name: 'nano', host }, { generator });
    for (const host of ['0.0.0.0', '::', '192.0.2.1']) {
      await expect(start(host)).rejects.toMatchObject({ code: 'API_KEY_MISSING', values: { host } });
    }
    const server = await startModelServer({ name: 'nano', host: '0.0.0.0', keys: ['k'] }, { generator });
    await server.stop();
  });

  it('answers web pages of the allowed origins only', async () => {
    const origin = 'https://page.example';
    const { send } = await testServer({ origins: [origin], keys: ['k'] });
    const preflight = await send('/v1/models', undefined, { method: 'OPTIONS', headers: { origin } });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('authorization');
    const foreign = { method: 'OPTIONS', headers: { origin: 'https://evil.example' } };
    expect(
      (await send('/v1/models', undefined, foreign)).headers.get('access-control-allow-origin'),
    ).toBeNull();
    const off = await testServer();
    const answer = await off.send('/v1/models', undefined, { headers: { origin } });
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
  });

  it("answers wrong requests in the form of OpenAI's API", async () => {
    const { refused } = await testServer();
    const post = (body: string, type = 'application/json') =>
      refused('/v1/completions', undefined, { method: 'POST', body, headers: { 'content-type': type } });
    expect(await refused('/v1/nothing')).toMatchObject({
      status: 404,
      code: 'unknown_url',
      type: expect.any(String),
    });
    expect((await refused('/v1/models/%ff')).status).toBe(400);
    expect((await post('{')).status).toBe(400);
    expect((await post('[]')).status).toBe(400);
    expect((await post('{}', 'text/plain')).status).toBe(415);
    const large = await post(`{"prompt":"${'x'.repeat(BODY_BYTES)}"}`);
    expect(large).toMatchObject({ status: 413, message: expect.stringContaining('8 MiB') });
    const unknown = await refused('/v1/completions', { model: 'other', prompt: 'x' });
    expect(unknown).toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: expect.stringContaining('other'),
    });
  });
});
