import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { encodeBundle } from '../../verify/bundle/encode.ts';
import type { Coordinator } from '../coordinator.ts';
import { bundleSource } from '../record/job-record.ts';
import { checked } from './checked.ts';

const querySchema = z.strictObject({ blobs: z.enum(['0', '1', 'true', 'false']).default('1') });

/** Adds the route that streams the bundle of a job. An error during the stream cuts the answer off. */
export function bundleRoutes(server: FastifyInstance, { coordinator }: { coordinator: Coordinator }): void {
  server.get<{ Params: { id: string } }>('/v1/jobs/:id/bundle', async ({ params, query }, reply) => {
    const { blobs } = checked(querySchema, query, 'query');
    const source = bundleSource(coordinator.find(params.id), {
      withBlobs: blobs === '1' || blobs === 'true',
    });
    reply.header('content-type', 'application/vnd.ipld.car');
    return reply.send(Readable.from(encodeBundle(source), { objectMode: false }));
  });
}
