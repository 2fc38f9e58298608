import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { ErrorJson } from '../../common/errors.ts';
import { type BundleSource, encodeBundle } from '../../verify/bundle/encode.ts';
import type { MissingBlob } from '../../verify/bundle/format.ts';
import { type BundleRepair, bundleSource, repairBundled } from '../record/job-record.ts';
import { checked } from './checked.ts';
import type { ApiDeps } from './deps.ts';
import { describeError } from './describe-error.ts';
import { whileConnected } from './streamed-answers.ts';

const flag = z.enum(['0', '1', 'true', 'false']);
const querySchema = z.strictObject({ blobs: flag.default('1'), progress: flag.default('0') });
const isSet = (value: z.output<typeof flag>): boolean => value === '1' || value === 'true';

/** A line before a bundle whose client has asked for the progress. The bytes of the bundle follow the line `bundle`. */
export type BundleLine =
  | ({ event: 'progress' } & BundleRepair)
  | ({ event: 'error' } & ErrorJson)
  | { event: 'bundle' };

/**
 * Adds the route that streams the bundle of a job. Damaged blobs are repaired before the bundle begins. The bundle names the
 * blobs that cannot be repaired, and lacks them. An error during the bundle cuts the answer off.
 */
export function bundleRoutes(server: FastifyInstance, deps: ApiDeps): void {
  const { coordinator } = deps;
  server.get<{ Params: { id: string } }>('/v1/jobs/:id/bundle', async ({ params, query }, reply) => {
    const { blobs, progress } = checked(querySchema, query, 'query');
    const source = bundleSource(coordinator.find(params.id), { withBlobs: isSet(blobs) });
    const { repair } = coordinator;
    const signal = whileConnected(reply, deps);
    const repairs = isSet(blobs) ? repairBundled(source, { ...deps, repair, signal }) : null;
    if (isSet(progress)) {
      reply.header('content-type', 'application/octet-stream');
      return reply.send(Readable.from(afterProgress(source, repairs, deps), { objectMode: false }));
    }
    const missing = await resultOf(repairs);
    reply.header('content-type', 'application/vnd.ipld.car');
    return reply.send(Readable.from(encodeBundle({ ...source, missing }), { objectMode: false }));
  });
}

type Repairs = ReturnType<typeof repairBundled> | null;

/** Yields lines with the progress of the repairs, and then the bundle. */
async function* afterProgress(source: BundleSource, repairs: Repairs, deps: ApiDeps) {
  const line = (content: BundleLine): Buffer => Buffer.from(`${JSON.stringify(content)}\n`);
  let missing: readonly MissingBlob[] = [];
  try {
    for (let step = await repairs?.next(); step !== undefined; step = await repairs?.next()) {
      if (step.done) {
        missing = step.value;
        break;
      }
      yield line({ event: 'progress', ...step.value });
    }
  } catch (error) {
    const { status, body } = describeError(error);
    if (status === 500) deps.log.error({ error }, 'bundle-not-repaired');
    yield line({ event: 'error', ...body });
    return;
  }
  yield line({ event: 'bundle' });
  yield* encodeBundle({ ...source, missing });
}

async function resultOf(repairs: Repairs): Promise<readonly MissingBlob[]> {
  if (repairs === null) return [];
  let step = await repairs.next();
  while (!step.done) step = await repairs.next();
  return step.value;
}
