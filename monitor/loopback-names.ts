import type { FastifyInstance } from 'fastify';
import { monitorError } from './errors.ts';

/**
 * Host names that requests may use. A web page whose own name resolves to this machine (DNS rebinding) sends that name.
 */
const HOSTS = ['127.0.0.1', 'localhost', '[::1]'];

/** Makes a server on the loopback interface refuse requests for any other host name, with 403 and HOST_REFUSED. */
export function onlyLoopbackNames(server: FastifyInstance): void {
  server.addHook('onRequest', async (request, reply) => {
    const host = request.headers.host?.replace(/:\d+$/, '') ?? '';
    if (HOSTS.includes(host)) return;
    const error = monitorError('HOST_REFUSED', 'requests for this host name are refused', { host });
    return reply.code(403).send(error.toJSON());
  });
}
