import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import type { CheckJobLine } from '../../protocol/api/coordinator.ts';
import type { CreateJobLine } from '../../protocol/api/job-creation.ts';
import { coordinatorError } from '../errors.ts';
import type { ApiDeps } from './deps.ts';
import { describeError } from './describe-error.ts';

/**
 * Streams lines of JSON: first the progress, and at the end the created job, the result of a job check, or the error.
 * The HTTP status is 200 for every valid request, even if the creation fails later.
 */
export function streamJob(
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
export function whileConnected(reply: FastifyReply, { signal }: Pick<ApiDeps, 'signal'>): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () =>
    gone.abort(coordinatorError('CLIENT_GONE', 'the client has disconnected', {})),
  );
  return AbortSignal.any([gone.signal, signal]);
}

export function stream(reply: FastifyReply, lines: Readable | AsyncIterable<string>): FastifyReply {
  reply.header('content-type', 'application/x-ndjson');
  return reply.send(lines instanceof Readable ? lines : Readable.from(lines, { objectMode: false }));
}
