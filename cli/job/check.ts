import { countOf, formatBytes, formatCount, percentDone } from '../../common/text.ts';
import type { JobProgress } from '../../index.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { JobCheck } from '../../protocol/api/job-creation.ts';
import type { Context } from '../context.ts';
import { printRefusedRows } from '../data/bad-rows.ts';
import { cacheFolder } from '../folders.ts';
import { ProgressLine } from '../print.ts';
import { dataLines, stageProgress } from './create.ts';

/** Checks a job against its base and data in this process, with progress on stderr. Writes only to the cache. */
export async function checkJobSpec(context: Context, spec: JobSpec): Promise<JobCheck> {
  const { checkJob } = await import('../../coordinator/jobs/check-job.ts');
  const progress = new ProgressLine(context);
  try {
    const { signal, clock } = context;
    const cacheDir = await cacheFolder(context);
    const onProgress = ({ stage, done, total }: JobProgress): void =>
      progress.update(stageProgress(stage, ['base', 'data'], percentDone(done, total)));
    return await checkJob(spec, { cacheDir, signal, onProgress }, { clock });
  } catch (error) {
    progress.clear();
    printRefusedRows(context, error);
    throw error;
  } finally {
    progress.clear();
  }
}

/** Returns the result as YAML comments, so that the output of a dry run is a valid job file. */
export function checkLines({ base, data, adapter, update, manifestBytes }: JobCheck): string[] {
  const { heldOut, read, tally } = data;
  const lines = dataLines({ read, tally, heldOutPart: heldOut });
  return [
    `base      ${base.name}, ${formatCount(base.parameters)} parameters, ${formatBytes(base.bytes)}`,
    `training  ${countOf(data.rows, 'row')}, ${countOf(data.tokens, 'token')}, ${formatBytes(data.bytes)}`,
    `held out  ${countOf(heldOut.rows, 'row')}, ${countOf(heldOut.tokens, 'token')}`,
    ...lines.map((line) => `data      ${line}`),
    `adapter   ${formatCount(adapter.parameters)} parameters, ${formatBytes(adapter.bytes)}`,
    ...update.map(
      ({ preset, bytes }) => `update    at most ${formatBytes(bytes)} per node and round (${preset})`,
    ),
    `manifest  ${formatBytes(manifestBytes)}`,
  ].map((line) => `# ${line}`);
}
