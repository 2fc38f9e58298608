import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { adapterNameSchema } from '../../protocol/ids.ts';
import { DETAIL_CHARACTERS, MAX_PRIORITY } from '../../protocol/limits.ts';
import { parseChange } from '../job-changes.ts';
import { sentJob } from '../jobs/job-start.ts';
import { checked } from './checked.ts';
import { CHECKPOINTS_PER_ANSWER } from './checkpoint-views.ts';
import type { ApiDeps } from './deps.ts';
import { eventLines } from './event-lines.ts';
import { findCheckpoint } from './find-checkpoint.ts';
import { stream, streamJob, whileConnected } from './streamed-answers.ts';

const reasonSchema = z
  .strictObject({ reason: z.string().max(DETAIL_CHARACTERS).default('') })
  .default({ reason: '' });

const rollBackSchema = z.strictObject({
  to: z.union([z.literal('best'), z.int().nonnegative()]),
  reason: z.string().max(DETAIL_CHARACTERS).default(''),
});

const changesSchema = z.strictObject({
  changes: z.record(z.string().max(256), z.unknown()),
  reason: z.string().max(DETAIL_CHARACTERS).default(''),
});

const placeSchema = z.object({
  priority: z.coerce.number().int().min(-MAX_PRIORITY).max(MAX_PRIORITY).optional(),
  after: z.string().min(1).max(64).optional(),
});

const cloneSchema = z
  .strictObject({
    name: adapterNameSchema.nullable().default(null),
    changes: z.record(z.string().max(256), z.unknown()).default({}),
    ...placeSchema.shape,
  })
  .default({ name: null, changes: {} });

/** Maximum of the query parameters `last` and `limit`, which are numbers of events. */
const MAX_EVENTS = 100_000;

const eventsSchema = z.object({
  after: z.coerce.number().int().nonnegative().default(0),
  /** Maximum number of events. If given, the answer has only the newest events. */
  last: z.coerce.number().int().positive().max(MAX_EVENTS).optional(),
  limit: z.coerce.number().int().positive().max(MAX_EVENTS).optional(),
  /** Types of events, separated by commas. */
  types: z
    .string()
    .min(1)
    .max(1024)
    .transform((text) => text.split(','))
    .optional(),
  follow: z.enum(['0', '1', 'true', 'false']).default('0'),
});

const checkpointsSchema = z.object({
  before: z.coerce.number().int().nonnegative().default(Number.MAX_SAFE_INTEGER),
  limit: z.coerce.number().int().positive().max(CHECKPOINTS_PER_ANSWER).default(CHECKPOINTS_PER_ANSWER),
});

const samplesSchema = z.object({ round: z.coerce.number().int().nonnegative().optional() });

export function jobRoutes(server: FastifyInstance, deps: ApiDeps): void {
  const { coordinator, creation, views, store } = deps;
  type ById = { Params: { id: string } };
  server.get('/v1/jobs', async () => ({ jobs: views.jobs() }));
  server.post('/v1/jobs', async ({ body, query }, reply) => {
    const spec = await sentJob(body);
    const place = checked(placeSchema, query, 'query');
    return streamJob(spec.name, (write, signal) => creation.create(spec, place, write, signal), reply, deps);
  });
  server.post('/v1/jobs/check', async ({ body }, reply) => {
    const spec = await sentJob(body);
    return streamJob(spec.name, (write, signal) => deps.checkJob(spec, write, signal), reply, deps);
  });
  server.post<ById>('/v1/jobs/:id/clone', async ({ params, body }, reply) => {
    const { job, stored } = coordinator.find(params.id).context;
    const options = checked(cloneSchema, body ?? undefined, 'body');
    return streamJob(
      stored.name,
      (write, signal) => creation.clone(job, options, write, signal),
      reply,
      deps,
    );
  });
  server.get<ById>('/v1/jobs/:id', async ({ params }) => views.detail(coordinator.find(params.id)));
  for (const type of ['pause', 'resume', 'stop'] as const) {
    server.post<ById>(`/v1/jobs/:id/${type}`, async ({ params, body }) => {
      const run = coordinator.find(params.id);
      const { reason } = checked(reasonSchema, body ?? undefined, 'reason');
      run.operate(type === 'resume' ? { type } : { type, reason });
      return views.job(run);
    });
  }
  server.post<ById>('/v1/jobs/:id/rollback', async ({ params, body }) => {
    const run = coordinator.find(params.id);
    const { to, reason } = checked(rollBackSchema, body ?? undefined, 'to');
    run.rollBack(to, reason);
    return views.job(run);
  });
  server.post<ById>('/v1/jobs/:id/settings', async ({ params, body }) => {
    const run = coordinator.find(params.id);
    const { changes, reason } = checked(changesSchema, body ?? undefined, 'changes');
    run.change(parseChange(run.context.stored.name, changes), { reason });
    return views.detail(run);
  });
  server.get<ById>('/v1/jobs/:id/events', async ({ params, query }, reply) => {
    const { job } = coordinator.find(params.id).context;
    const { after, last, follow, ...filter } = checked(eventsSchema, query, 'after');
    const start = last === undefined ? after : Math.max(after, store.events.newest(job) - last);
    const options = { job, after: start, follow: follow === '1' || follow === 'true', ...filter };
    return stream(reply, eventLines(options, { coordinator, store, signal: whileConnected(reply, deps) }));
  });
  server.get<ById>('/v1/jobs/:id/checkpoints', async ({ params, query }) => {
    const page = checked(checkpointsSchema, query, 'before');
    return { checkpoints: views.checkpoints.page(coordinator.find(params.id), page) };
  });
  server.get<ById>('/v1/jobs/:id/samples', async ({ params, query }) => {
    const { round = null } = checked(samplesSchema, query, 'round');
    return views.samples(coordinator.find(params.id), round);
  });
  server.get<{ Params: { id: string; round: string } }>(
    '/v1/jobs/:id/checkpoints/:round',
    async ({ params }) => {
      const run = coordinator.find(params.id);
      const stored = findCheckpoint(run, params.round, store);
      return views.checkpoints.one(run, stored);
    },
  );
}
