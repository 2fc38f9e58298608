import type { Registry } from '@prometheus-io/client';
import Fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { checkOptions } from '../../common/schema-problems.ts';
import type { Health } from '../../monitor/health.ts';
import { listenOnLoopback, onlyLoopbackNames, requireToken } from '../../monitor/loopback-server.ts';
import { addMonitorRoutes } from '../../monitor/monitor-routes.ts';
import { addPageRoutes } from '../../monitor/page.ts';
import type { CoordinatorClock, CoordinatorRecord, NodeStatus } from '../../protocol/api/node.ts';
import type { NodeControl } from '../limits/node-control.ts';
import { addControlRoutes } from '../limits/routes.ts';
import type { FetchedCheckpoint } from '../reader/checkpoint-pull.ts';

export interface NodeHttpOptions {
  /** Port to listen on; 0 for any free port. */
  port: number;
  /** Bearer token for all routes below /v1. */
  token: string;
}

export interface NodeHttpDeps {
  health: Health;
  registry: Registry;
  status: () => NodeStatus;
  /** Measures the clocks of the coordinators that the node is connected to. */
  clocks: () => Promise<CoordinatorClock[]>;
  /** Asks a coordinator about an update of this node. */
  record: (subject: { job: string; round: number }) => Promise<CoordinatorRecord | null>;
  control: NodeControl;
  /** Fetches the newest checkpoint of a job for the owner of the machine. The signal aborts when the client disconnects. */
  checkpoint: (job: string, signal: AbortSignal) => Promise<FetchedCheckpoint>;
}

const recordSchema = z.strictObject({
  job: z.string().min(1).max(256),
  round: z.coerce.number().int().positive(),
});

const checkpointSchema = z.strictObject({ job: z.string().min(1).max(256) });

/** Maximum size of a request body. The longest order changes all limits. */
const BODY_BYTES = 4096;

/** Starts the node's HTTP server on the loopback interface. @throws SwarmError LISTEN_FAILED */
export async function startNodeHttp(
  options: NodeHttpOptions,
  deps: NodeHttpDeps,
): Promise<{ url: string; server: FastifyInstance }> {
  const server = Fastify({ bodyLimit: BODY_BYTES, forceCloseConnections: true });
  onlyLoopbackNames(server);
  requireToken(server, options.token);
  addMonitorRoutes(server, deps);
  addPageRoutes(server);
  server.get('/v1/status', async (_request, reply) =>
    reply.header('cache-control', 'no-store').send(deps.status()),
  );
  server.get('/v1/clocks', async () => ({ clocks: await deps.clocks() }));
  server.get('/v1/record', async ({ query }) => {
    checkOptions(recordSchema, query);
    return { record: await deps.record(recordSchema.parse(query)) };
  });
  addControlRoutes(server, deps.control);
  server.post('/v1/checkpoint', (request, reply) => {
    checkOptions(checkpointSchema, request.body);
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    return deps.checkpoint(checkpointSchema.parse(request.body).job, gone.signal);
  });
  const url = await listenOnLoopback(server, options.port);
  return { url, server };
}
