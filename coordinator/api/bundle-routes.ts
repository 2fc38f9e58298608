import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { encodeBundle } from '../../verify/bundle/encode.ts';
import { bundleSource, repairBundled } from '../record/job-record.ts';
import { checked } from './checked.ts';
import type { ApiDeps } from './deps.ts';
import { whileConnected } from './streamed-answers.ts';

const querySchema = z.strictObject({ blobs: z.enum(['0', '1', 'true', 'false']).default('1') });

/**
 * Adds the route that streams the bundle of a job. Damaged blobs are repaired before the answer begins. The bundle names the
 * blobs that cannot be repaired, and lacks them. An error during the stream cuts the answer off.
 */
export function bundleRoutes(server: FastifyInstance, deps: ApiDeps): void {
  const { coordinator } = deps;
  server.get<{ Params: { id: string } }>('/v1/jobs/:id/bundle', async ({ params, query }, reply) => {
    const { blobs } = checked(querySchema, query, 'query');
    const withBlobs = blobs === '1' || blobs === 'true';
    const source = bundleSource(coordinator.find(params.id), { withBlobs });
    const { repair } = coordinator;
    const missing = withBlobs
      ? await repairBundled(source, { ...deps, repair, signal: whileConnected(reply, deps) })
      : [];
    reply.header('content-type', 'application/vnd.ipld.car');
    return reply.send(Readable.from(encodeBundle({ ...source, missing }), { objectMode: false }));
  });
}
