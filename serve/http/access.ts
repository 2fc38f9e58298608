import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { monitorError } from '../../monitor/errors.ts';
import { isLoopbackHost } from '../../monitor/loopback-server.ts';
import { serveError } from '../errors.ts';
import { shown } from './fields.ts';

export interface AccessOptions {
  /** Valid API keys. If there are none, every client may send requests. */
  readonly keys: readonly string[];
  /** Origins of web pages that may send requests; `*` allows all. */
  readonly origins: readonly string[];
  /** Whether the server listens on a loopback address. */
  readonly loopback: boolean;
}

/** Path for health probes, which send no key. The answer says only whether the server works. */
const PUBLIC = '/health';
/** Name of the client of a request whose connection ended before the request was read. */
const UNKNOWN_ADDRESS = 'unknown';
/** Seconds for which a browser may remember the answer to a preflight request. */
const PREFLIGHT_SECONDS = 600;

const hashOf = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Decides which requests are answered, and names the client of a request. */
export class Access {
  readonly #keys: readonly Buffer[];
  readonly #origins: readonly string[];
  readonly #checksHost: boolean;
  readonly #clients = new WeakMap<FastifyRequest, string>();

  constructor({ keys, origins, loopback }: AccessOptions) {
    this.#keys = keys.map(hashOf);
    this.#origins = origins;
    this.#checksHost = loopback && keys.length === 0;
  }

  /**
   * Makes a server refuse requests without a valid key (401). A server on loopback without keys refuses requests whose
   * header `Host` names another host (403). A foreign web page sends such requests if its own host name resolves to
   * this machine (DNS rebinding).
   */
  protect(server: FastifyInstance): void {
    server.addHook('onRequest', async (request, reply) => {
      const origin = this.#allowedOrigin(request);
      if (origin !== null) {
        reply.header('access-control-allow-origin', origin).header('vary', 'origin');
        if (request.method === 'OPTIONS') {
          return reply
            .code(204)
            .header('access-control-allow-methods', 'GET, POST')
            .header('access-control-allow-headers', 'authorization, content-type')
            .header('access-control-max-age', PREFLIGHT_SECONDS)
            .send();
        }
      }
      const { host = '' } = request.headers;
      if (this.#checksHost && !isLoopbackHost(host)) {
        throw monitorError('HOST_REFUSED', `requests for the host name ${shown(host)} are refused`, { host });
      }
      if (this.#keys.length > 0 && request.url !== PUBLIC && this.#keyOf(request) === null) {
        throw serveError('API_KEY_WRONG', 'the request has no valid API key');
      }
    });
  }

  /**
   * Returns the client of a request, by which limits count: its key or, without keys, its network address. The first
   * call must come when the request arrives, because the address is gone once the client has disconnected. Later calls
   * return the same client.
   */
  clientOf(request: FastifyRequest): string {
    const known = this.#clients.get(request);
    if (known !== undefined) return known;
    const key = this.#keys.length === 0 ? null : this.#keyOf(request);
    const address: string | undefined = request.ip;
    const client = key === null ? (address ?? UNKNOWN_ADDRESS) : `key ${key + 1}`;
    this.#clients.set(request, client);
    return client;
  }

  /**
   * Returns the index of the request's key among the valid keys; null if the request has no valid key. Compares keys
   * in constant time.
   */
  #keyOf(request: FastifyRequest): number | null {
    const [, given] = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (given === undefined) return null;
    const hash = hashOf(given);
    const matches = this.#keys.map((key) => timingSafeEqual(key, hash));
    const at = matches.indexOf(true);
    return at < 0 ? null : at;
  }

  #allowedOrigin({ headers }: FastifyRequest): string | null {
    const { origin } = headers;
    if (origin === undefined) return null;
    return this.#origins.includes('*') ? '*' : this.#origins.includes(origin) ? origin : null;
  }
}
