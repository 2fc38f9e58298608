import { resolve } from 'node:path';
import { formatBytes } from '../../common/text.ts';
import { verifyError } from '../../verify/errors.ts';
import type { Context } from '../context.ts';
import { coordinatorApi, type HomeFlag } from '../daemon/connect.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';

/** Maximum number of missing blobs that the error of an incomplete bundle names. With --json, it has all of them. */
const LISTED = 5;

/**
 * Runs `lora-swarm job bundle`.
 * @throws SwarmError BUNDLE_INCOMPLETE if the bundle was written, but lacks damaged blobs
 */
export async function writeBundle(
  context: Context,
  job: string,
  path: string,
  flags: HomeFlag & { json?: boolean; blobs: boolean },
): Promise<void> {
  const { bundleJob } = await import('../../index.ts');
  const file = resolve(context.cwd, path);
  const progress = new ProgressLine(context);
  const written = await bundleJob(await coordinatorApi(context, flags), job, file, {
    blobs: flags.blobs,
    signal: context.signal,
    onProgress: (bytes) => progress.update(`bundle: ${formatBytes(bytes)}`),
  }).finally(() => progress.clear());
  const { bytes, missing } = written;
  const isComplete = missing.length === 0;
  // With --json, the error below is the only object.
  if (flags.json && isComplete) printJson(context, { schemaVersion: 1, ...written });
  else if (!flags.json) printLines(context, [`bundle of job ${job} in ${file}, ${formatBytes(bytes)}`]);
  if (isComplete) return;
  const names = missing
    .slice(0, LISTED)
    .map(({ use, round, digest }) => `the ${use} of round ${round} (blob ${digest})`);
  if (missing.length > LISTED) names.push(`${missing.length - LISTED} more`);
  const text = `${file} lacks damaged files that no connected node has: ${names.join(', ')}`;
  throw verifyError('BUNDLE_INCOMPLETE', text, { ...written });
}
