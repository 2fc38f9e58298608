import type { FastifyInstance } from 'fastify';

/** Names under which this machine may be asked: a page that points its own name here (DNS rebinding) has another. */
const HOSTS = ['127.0.0.1', 'localhost', '[::1]'];

/** Refuses requests, with 403 and the code HOST_REFUSED, that reach a server on the loopback interface under a foreign name. */
export function onlyLoopbackNames(server: FastifyInstance): void {
  server.addHook('onRequest', async (request, reply) => {
    const host = request.headers.host?.replace(/:\d+$/, '') ?? '';
    if (HOSTS.includes(host)) return;
    return reply
      .code(403)
      .send({ code: 'HOST_REFUSED', message: 'ask this machine by 127.0.0.1', values: {} });
  });
}
