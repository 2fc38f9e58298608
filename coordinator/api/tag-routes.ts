import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { checked } from './checked.ts';
import type { ApiDeps } from './deps.ts';
import { findCheckpoint } from './find-checkpoint.ts';

/** Maximum length of a reason in the log of a tag, in characters. */
const REASON_CHARACTERS = 300;

const tagSchema = z.strictObject({
  tag: z.string().max(256),
  reason: z.string().max(REASON_CHARACTERS).default(''),
});

export function tagRoutes(server: FastifyInstance, { coordinator, store, tags }: ApiDeps): void {
  server.get<{ Params: { id: string } }>('/v1/jobs/:id/versions', async ({ params }) => ({
    versions: await tags.versions(coordinator.find(params.id)),
  }));
  server.post<{ Params: { id: string; round: string } }>(
    '/v1/jobs/:id/checkpoints/:round/tag',
    async ({ params, body }) => {
      const run = coordinator.find(params.id);
      const { tag, reason } = checked(tagSchema, body ?? undefined, 'tag');
      return { versions: await tags.tag(run, findCheckpoint(run, params.round, store), tag, reason) };
    },
  );
}
