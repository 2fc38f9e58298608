/** Starts the real HTTP server over a fake generator. */
import { onTestFinished } from 'vitest';
import type { ServedRequest } from '../../../serve/http/context.ts';
import type { OpenAiError } from '../../../serve/http/errors.ts';
import {
  type ModelServerDeps,
  type ModelServerOptions,
  startModelServer,
} from '../../../serve/model-server.ts';
import { type FakeGeneratorOptions, fakeGenerator } from '../../utils/models/fake-generator.ts';

export interface TestServerOptions extends Partial<ModelServerOptions>, FakeGeneratorOptions {
  readonly registry?: ModelServerDeps['registry'];
  readonly log?: ModelServerDeps['log'];
}

export type Json = Record<string, unknown> & {
  // biome-ignore lint/suspicious/noExplicitAny: tests read answers whose form they assert.
  [key: string]: any;
};

export async function testServer(options: TestServerOptions = {}) {
  const { answer, beforeToken, context, registry, log, ...rest } = options;
  const generator = await fakeGenerator({
    ...(answer && { answer }),
    ...(beforeToken && { beforeToken }),
    ...(context && { context }),
  });
  const served: ServedRequest[] = [];
  const server = await startModelServer(
    { name: 'nano', template: 'chatml', ...rest },
    {
      generator,
      onServed: (request) => served.push(request),
      ...(registry && { registry }),
      ...(log && { log }),
    },
  );
  onTestFinished(() => server.stop({ deadlineMs: 0 }));
  const send = (path: string, body?: object, init: RequestInit = {}): Promise<Response> =>
    fetch(server.url + path, {
      ...init,
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
      headers: { ...(body && { 'content-type': 'application/json' }), ...init.headers },
    });
  return {
    server,
    generator,
    served,
    send,
    /** Sends a request that must succeed, and returns its answer. */
    ask: async (path: string, body?: object): Promise<Json> => {
      const response = await send(path, body);
      const json = (await response.json()) as Json;
      if (response.status !== 200) throw new Error(`${response.status}: ${JSON.stringify(json)}`);
      return json;
    },
    /** Sends a request that must fail, and returns its status and its error. */
    refused: async (path: string, body?: object, init?: RequestInit) => {
      const response = await send(path, body, init);
      const { error } = (await response.json()) as { error: OpenAiError['error'] };
      return { status: response.status, headers: response.headers, ...error };
    },
    /** Sends a streaming request, and returns the data of its events. */
    events: async (path: string, body: object): Promise<Json[]> => {
      const response = await send(path, { ...body, stream: true });
      const lines = (await response.text()).split('\n\n').filter((line) => line !== '');
      if (lines.at(-1) !== 'data: [DONE]') throw new Error(`the stream has no end: ${lines.at(-1)}`);
      return lines.slice(0, -1).map((line) => JSON.parse(line.replace(/^data: /, '')) as Json);
    },
  };
}
