import { Readable } from 'node:stream';
import type { Registry } from '@prometheus-io/client';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { ErrorJson, ErrorKind } from '../../common/errors.ts';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { type JobSpec, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { Health } from '../../monitor/health.ts';
import { listenOnLoopback, onlyLoopbackNames, requireToken } from '../../monitor/loopback-server.ts';
import { addMonitorRoutes } from '../../monitor/monitor-routes.ts';
import { addPageRoutes } from '../../monitor/page.ts';
import { digestSchema, nameSchema } from '../../protocol/ids.ts';
import { BLOB_RANGE_BYTES, DETAIL_CHARACTERS, MAX_PRIORITY } from '../../protocol/limits.ts';
import { storageError } from '../../storage/errors.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import { coordinatorError } from '../errors.ts';
import { parseChange } from '../job-changes.ts';
import type { JobRun } from '../job-run.ts';
import type { CloneOptions } from '../jobs/clone-job.ts';
import type { NewPlace } from '../jobs/create-job.ts';
import type { NewSweep } from '../jobs/sweeps.ts';
import { checked } from './checked.ts';
import { eventLines } from './event-lines.ts';
import { inviteRoutes } from './invite-routes.ts';
import { peerRoutes } from './peer-routes.ts';
import { sweepRoutes } from './sweep-routes.ts';
import type { CheckJobLine, CreateJobLine } from './types.ts';
import type { Views } from './views.ts';

/** Maximum size of a request body. The largest body in practice, a job file with ten thousand paths, is smaller. */
export const API_BODY_BYTES = 1024 * 1024;

export interface ApiOptions {
  /** Port on 127.0.0.1; 0 for any free port. */
  readonly port: number;
  readonly token: string;
}

export interface ApiDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'blobs' | 'clock'> {
  readonly coordinator: Coordinator;
  readonly views: Views;
  readonly health: Health;
  readonly registry: Registry;
  readonly log: Logger;
  /** Aborts when the daemon stops. Aborting ends the streamed answers. */
  readonly signal: AbortSignal;
  /** Creates and starts a job. */
  createJob(
    spec: JobSpec,
    place: NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Creates and starts a copy of a job. */
  cloneJob(
    job: string,
    options: CloneOptions & NewPlace,
    onLine: (line: CreateJobLine) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Checks a job as `createJob` does, but creates nothing. */
  checkJob(spec: JobSpec, onLine: (line: CheckJobLine) => void, signal: AbortSignal): Promise<void>;
  /** Records and starts a sweep. */
  createSweep(sweep: NewSweep): void;
  /** Called when the operator stops the daemon through the API, after the answer has been sent. */
  shutdown(): void;
}

const reasonSchema = z
  .strictObject({ reason: z.string().max(DETAIL_CHARACTERS).default('') })
  .default({ reason: '' });
const rollBackSchema = z.strictObject({ to: z.union([z.literal('best'), z.int().nonnegative()]) });
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
    name: nameSchema.nullable().default(null),
    changes: z.record(z.string().max(256), z.unknown()).default({}),
    ...placeSchema.shape,
  })
  .default({ name: null, changes: {} });
/** Maximum of the query parameters `last` and `limit`, which are numbers of events. */
const MAX_EVENTS = 100_000;
const eventsSchema = z.object({
  after: z.coerce.number().int().nonnegative().default(0),
  /** If given, the answer has only the newest events, at most this number. */
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

/**
 * Starts the control API. It listens on loopback only, and each request needs the bearer token. docs/protocol.md
 * describes the API, and types.ts has the types of its answers.
 * @throws SwarmError LISTEN_FAILED
 */
export async function startApi(
  options: ApiOptions,
  deps: ApiDeps,
): Promise<{ url: string; server: FastifyInstance }> {
  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, body } = describeError(error);
    if (status === 500) deps.log.error({ url: request.url, error }, 'request-failed');
    void reply.code(status).send(body);
  };
  const server = Fastify({
    bodyLimit: API_BODY_BYTES,
    forceCloseConnections: true,
    // Answers requests that reach no route, for example because their path is malformed.
    frameworkErrors: answerError,
  });
  // The API parses only JSON. A browser lets a web page of another origin post text/plain and forms, but asks the API
  // with a preflight request before it posts JSON.
  server.removeContentTypeParser('text/plain');
  onlyLoopbackNames(server);
  requireToken(server, options.token);
  addHeaders(server);
  server.setErrorHandler(answerError);
  server.setNotFoundHandler((request, reply) =>
    reply
      .code(404)
      .send(
        coordinatorError(
          'NOT_FOUND',
          `the API has no endpoint ${request.method} ${request.url.split('?')[0]}`,
        ).toJSON(),
      ),
  );
  addMonitorRoutes(server, deps);
  addPageRoutes(server);
  readRoutes(server, deps);
  peerRoutes(server, deps);
  jobRoutes(server, deps);
  inviteRoutes(server, deps);
  sweepRoutes(server, deps);
  server.post('/v1/shutdown', async (_request, reply) => {
    reply.raw.once('finish', () => deps.shutdown());
    return {};
  });
  const url = await listenOnLoopback(server, options.port);
  return { url, server };
}

function addHeaders(server: FastifyInstance): void {
  server.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
  });
}

function readRoutes(server: FastifyInstance, { views, blobs }: ApiDeps): void {
  server.get('/v1/status', async () => views.status());
  server.get<{ Params: { digest: string } }>('/v1/blobs/:digest', async ({ params }, reply) => {
    const digest = checked(digestSchema, params.digest, 'digest');
    const size = await blobs.size(digest);
    if (size === null)
      throw storageError('BLOB_MISSING', `the coordinator has no blob ${digest}`, { digest });
    const ranges = async function* (): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < size; at += BLOB_RANGE_BYTES)
        yield await blobs.read(digest, at, BLOB_RANGE_BYTES);
    };
    reply.header('content-type', 'application/octet-stream').header('content-length', size);
    return reply.send(Readable.from(ranges(), { objectMode: false }));
  });
}

function jobRoutes(server: FastifyInstance, deps: ApiDeps): void {
  const { coordinator, views, store } = deps;
  type ById = { Params: { id: string } };
  server.get('/v1/jobs', async () => ({ jobs: views.jobs() }));
  server.post('/v1/jobs', async ({ body, query }, reply) => {
    const spec = parseJobSpec(body);
    const place = checked(placeSchema, query, 'query');
    return streamJob(spec.name, (write, signal) => deps.createJob(spec, place, write, signal), reply, deps);
  });
  server.post('/v1/jobs/check', async ({ body }, reply) => {
    const spec = parseJobSpec(body);
    return streamJob(spec.name, (write, signal) => deps.checkJob(spec, write, signal), reply, deps);
  });
  server.post<ById>('/v1/jobs/:id/clone', async ({ params, body }, reply) => {
    const { job, stored } = coordinator.find(params.id).context;
    const options = checked(cloneSchema, body ?? undefined, 'body');
    return streamJob(stored.name, (write, signal) => deps.cloneJob(job, options, write, signal), reply, deps);
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
    run.rollBack(checked(rollBackSchema, body ?? undefined, 'to').to);
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
  server.get<ById>('/v1/jobs/:id/checkpoints', async ({ params }) => ({
    checkpoints: views.checkpoints(coordinator.find(params.id)),
  }));
  server.get<{ Params: { id: string; round: string } }>(
    '/v1/jobs/:id/checkpoints/:round',
    async ({ params }) => {
      const run = coordinator.find(params.id);
      const stored = findCheckpoint(run, params.round, store);
      return views.checkpoint(run, stored);
    },
  );
}

/**
 * Streams lines of JSON: first the progress, and at the end the job, the figures of the check, or the error.
 * The HTTP status is 200 for every valid request, even if the creation fails later.
 */
function streamJob(
  name: string,
  work: (write: (line: CreateJobLine | CheckJobLine) => void, signal: AbortSignal) => Promise<void>,
  reply: FastifyReply,
  deps: ApiDeps,
): FastifyReply {
  const lines = new Readable({ read() {} });
  const write = (line: CreateJobLine | CheckJobLine): void => void lines.push(`${JSON.stringify(line)}\n`);
  work(write, whileConnected(reply, deps))
    .catch((error: unknown) => {
      const { status, body } = describeError(error);
      if (status === 500) deps.log.error({ name, error }, 'job-not-created');
      write({ event: 'error', ...body });
    })
    .finally(() => lines.push(null));
  return stream(reply, lines);
}

/** Returns a signal that aborts when the client disconnects or the daemon stops. */
function whileConnected(reply: FastifyReply, { signal }: Pick<ApiDeps, 'signal'>): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () =>
    gone.abort(coordinatorError('CLIENT_GONE', 'the client has disconnected', {})),
  );
  return AbortSignal.any([gone.signal, signal]);
}

function findCheckpoint({ context }: JobRun, round: string, store: ApiDeps['store']) {
  const { job, stored } = context;
  const { rounds } = store;
  const best = round === 'best' ? bestCheckpoint(job, store) : null;
  const found =
    round === 'latest'
      ? rounds.newestCheckpoints(job, 1)[0]
      : (best ?? rounds.checkpoint(job, Number(round)));
  if (found) return found;
  const message = `job ${stored.name} has no checkpoint of round ${round}`;
  throw coordinatorError(
    'CHECKPOINT_UNKNOWN',
    message,
    { round, known: rounds.checkpointRounds(job) },
    { next: `see all its checkpoints with "lora-swarm checkpoint list ${stored.name}"` },
  );
}

function stream(reply: FastifyReply, lines: Readable | AsyncIterable<string>): FastifyReply {
  reply.header('content-type', 'application/x-ndjson');
  return reply.send(lines instanceof Readable ? lines : Readable.from(lines, { objectMode: false }));
}

/** HTTP status of each kind of error that a request can cause. Errors of all other kinds get 422. */
const STATUS: Partial<Record<ErrorKind, number>> = { usage: 400, notFound: 404, conflict: 409 };

/** This program's code for each of Fastify's errors. Fastify's other errors about a request get REQUEST_INVALID. */
const FASTIFY_CODES: Readonly<Record<string, keyof typeof coordinatorError.table>> = {
  FST_ERR_BAD_URL: 'BAD_URL',
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'EMPTY_JSON_BODY',
  FST_ERR_CTP_INVALID_JSON_BODY: 'INVALID_JSON_BODY',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'INVALID_MEDIA_TYPE',
};

function describeError(error: unknown): { status: number; body: ErrorJson } {
  if (isSwarmError(error)) {
    return { status: STATUS[error.kind] ?? 422, body: error.toJSON() };
  }
  // An error of Fastify that the request caused has a status below 500.
  if (error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number') {
    const code = FASTIFY_CODES['code' in error ? String(error.code) : ''] ?? 'REQUEST_INVALID';
    if (error.statusCode < 500)
      return { status: error.statusCode, body: coordinatorError(code, error.message).toJSON() };
  }
  return {
    status: 500,
    body: coordinatorError('INTERNAL', 'the coordinator failed to answer the request').toJSON(),
  };
}
