/** The HTTP servers of daemons, which listen on the loopback interface only. */
import { timingSafeEqual } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { commonError } from '../common/common-errors.ts';
import { monitorError } from './errors.ts';

/** A TCP port; 0 means any free port. */
export const portSchema = z.int().min(0).max(65535);

/**
 * Host names that requests may use. A foreign web page whose host name resolves to this machine (DNS rebinding) sends
 * its own host name, and is refused.
 */
const HOSTS = ['127.0.0.1', 'localhost', '[::1]'];

/** Returns whether the header `Host` of a request names the loopback interface. The port does not matter. */
export function isLoopbackHost(host: string | undefined): boolean {
  return HOSTS.includes(host?.replace(/:\d+$/, '') ?? '');
}

/**
 * Makes a server on the loopback interface refuse requests whose header `Host` names another host. The server
 * answers such requests with 403 and HOST_REFUSED.
 */
export function onlyLoopbackNames(server: FastifyInstance): void {
  server.addHook('onRequest', async (request, reply) => {
    const { host = '' } = request.headers;
    if (isLoopbackHost(host)) return;
    const error = monitorError('HOST_REFUSED', 'requests for this host name are refused', { host });
    return reply.code(403).send(error.toJSON());
  });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Whether the route needs no token, because its answers contain no peer, path or secret. @default false
     */
    isPublic?: boolean;
  }
}

/**
 * Makes a server require a bearer token for all routes that are not public. Other requests get 401 and UNAUTHORISED.
 * Without the token, any user of the machine could read what the daemon does.
 */
export function requireToken(server: FastifyInstance, token: string): void {
  const expected = Buffer.from(`Bearer ${token}`);
  server.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.config?.isPublic) return;
    const given = Buffer.from(request.headers.authorization ?? '');
    if (given.length === expected.length && timingSafeEqual(given, expected)) return;
    const error = monitorError('UNAUTHORISED', 'the request has no valid bearer token');
    return reply.code(401).header('www-authenticate', 'Bearer').send(error.toJSON());
  });
}

/** Listens on 127.0.0.1, and returns the root of the server's URLs. @throws SwarmError LISTEN_FAILED */
export async function listenOnLoopback(server: FastifyInstance, port: number): Promise<string> {
  const host = '127.0.0.1';
  try {
    return await server.listen({ host, port });
  } catch (cause) {
    const listen = `${host}:${port}`;
    const reason = cause instanceof Error ? cause.message.replace(/^listen /, '') : String(cause);
    throw commonError('LISTEN_FAILED', `could not listen on ${listen}: ${reason}`, { listen }, { cause });
  }
}
