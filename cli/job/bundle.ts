import { resolve } from 'node:path';
import { formatBytes } from '../../common/text.ts';
import type { Context } from '../context.ts';
import { coordinatorApi, type HomeFlag } from '../daemon/connect.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';

/** Runs `lora-swarm job bundle`. */
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
  if (flags.json) printJson(context, { schemaVersion: 1, ...written });
  else printLines(context, [`bundle of job ${job} in ${file}, ${formatBytes(written.bytes)}`]);
}
