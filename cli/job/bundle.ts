import { resolve } from 'node:path';
import { countOf, formatBytes } from '../../common/text.ts';
import type { MissingBlob } from '../../index.ts';
import { verifyError } from '../../verify/errors.ts';
import type { Context } from '../context.ts';
import { coordinatorApi, type HomeFlag } from '../daemon/connect.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';

/** Maximum number of missing blobs that the error of an incomplete bundle names. With --json, it has all of them. */
const LISTED = 5;

/**
 * Runs `lora-swarm job bundle`.
 * @throws SwarmError BUNDLE_INCOMPLETE if the bundle was written, but lacks damaged blobs that a node may have
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
    onRepair: ({ checked, blobs, repairing }) => {
      const count = `bundle: checked ${checked} of ${countOf(blobs, 'file')}`;
      const what = repairing && `; repairing the ${repairing.use} of round ${repairing.round}`;
      progress.update(`${count}${what ?? ''}`);
    },
    onProgress: (bytes) => progress.update(`bundle: ${formatBytes(bytes)}`),
  }).finally(() => progress.clear());
  const { bytes, missing } = written;
  // No node has a residual, so no other bundle can have it.
  const [residuals, lost] = [missing.filter(isResidual), missing.filter((blob) => !isResidual(blob))];
  const isComplete = lost.length === 0;
  // With --json, the error below is the only object.
  if (flags.json && isComplete) printJson(context, { schemaVersion: 1, ...written });
  else if (!flags.json) {
    const lines = [`bundle of job ${job} in ${file}, ${formatBytes(bytes)}`];
    if (residuals.length > 0)
      lines.push(
        `The bundle lacks lost files that no node has: ${namesOf(residuals)}. "lora-swarm verify" lists the checks that need them.`,
      );
    printLines(context, lines);
  }
  if (isComplete) return;
  const text = `${file} lacks damaged files that no connected node has: ${namesOf(lost)}`;
  throw verifyError('BUNDLE_INCOMPLETE', text, { ...written });
}

function isResidual({ use }: MissingBlob): boolean {
  return use === 'residual';
}

function namesOf(missing: readonly MissingBlob[]): string {
  const names = missing
    .slice(0, LISTED)
    .map(({ use, round, digest }) => `the ${use} of round ${round} (blob ${digest})`);
  if (missing.length > LISTED) names.push(`${missing.length - LISTED} more`);
  return names.join(', ');
}
