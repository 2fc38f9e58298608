import type { FastifyInstance } from 'fastify';
import type { Webhooks } from './webhooks.ts';

/**
 * Adds the routes that show and test the webhooks. No route changes webhooks, because the operator sets them
 * on the machine.
 */
export function webhookRoutes(server: FastifyInstance, { webhooks }: { webhooks: Webhooks }): void {
  server.get('/v1/webhooks', async () => ({ webhooks: webhooks.views() }));
  server.post('/v1/webhooks/test', async () => ({ results: await webhooks.test() }));
}
