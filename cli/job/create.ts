import { percentDone, phaseText } from '../../common/text.ts';
import { waysOn } from '../../coordinator/ways-on.ts';
import type { ApiClient, CreatedJob, CreateJobOptions, JobDataReport, JobSpecInput } from '../../index.ts';
import { overlapWarning } from '../../lora/data/packing/held-out-overlap.ts';
import { mostAreCut } from '../../lora/data/packing/tally.ts';
import { SWARM, withCommandName } from '../command-name.ts';
import type { Context } from '../context.ts';
import { badRowLines, badRowSummary, printRefusedRows, tallyLines } from '../data/bad-rows.ts';
import { downloadTexts } from '../models/base-model.ts';
import { ProgressLine, printJson, printLines, printNote, printWarning } from '../print.ts';

const STAGES = {
  base: 'reading the base model',
  data: 'packing the data',
  adapter: 'creating the initial adapter',
  baseline: 'measuring the held-out loss of the initial adapter',
} as const;
type Stage = keyof typeof STAGES;

/** Creates a job on the coordinator and shows progress on stderr. @throws SwarmError with the coordinator's code */
export async function submitJob(
  context: Pick<Context, 'stderr' | 'clock' | 'signal'>,
  api: ApiClient,
  spec: JobSpecInput,
  place: Pick<CreateJobOptions, 'priority' | 'after'> = {},
): Promise<CreatedJob> {
  const { createJob } = await import('../../index.ts');
  return withProgress(context, (options) => createJob(api, spec, { ...place, ...options }));
}

/**
 * Formats the progress of one stage. The percentage starts again at 0 in each stage; the number of the stage shows the
 * reason.
 */
export function stageProgress(stage: Stage, stages: readonly Stage[], percent: string): string {
  return `step ${stages.indexOf(stage) + 1} of ${stages.length}: ${STAGES[stage]}  ${percent}`;
}

/**
 * Runs a function that creates a job, and shows its progress on stderr.
 * @param stages the stages that the creation goes through
 */
export async function withProgress(
  context: Pick<Context, 'stderr' | 'clock' | 'signal'>,
  create: (options: CreateJobOptions) => Promise<CreatedJob>,
  stages: readonly Stage[] = ['base', 'data', 'adapter', 'baseline'],
): Promise<CreatedJob> {
  const progress = new ProgressLine(context);
  const textOf = downloadTexts(context.clock);
  try {
    return await create({
      signal: context.signal,
      onDownload: (download) => progress.update(textOf(download)),
      onProgress: ({ stage, done, total }) =>
        progress.update(stageProgress(stage, stages, percentDone(done, total))),
      onData: (data) => {
        progress.clear();
        for (const text of dataLines(data)) printNote(context, text);
        const warnings = [mostAreCut(data.tally), overlapWarning(data.heldOutPart?.overlap ?? 0)];
        for (const warning of warnings) if (warning !== null) printWarning(context, warning);
      },
    });
  } catch (error) {
    progress.clear();
    printRefusedRows(context, error);
    throw error;
  } finally {
    progress.clear();
  }
}

/**
 * Prints one line if peers in other networks, or on other machines, cannot use an invite. One line is enough, because
 * the start of the coordinator and `lora-swarm doctor --swarm` print the addresses and the advice.
 */
export async function noteReach(context: Pick<Context, 'stderr'>, invite: string): Promise<void> {
  const [{ decodeInvite }, { privateAddressesWarning }] = await Promise.all([
    import('../../protocol/access/invite.ts'),
    import('../../net/addresses.ts'),
  ]);
  const warning = privateAddressesWarning(decodeInvite(invite).addresses);
  if (warning === null) return;
  const where = warning.values.reach === 'this machine' ? 'on this machine' : "in the coordinator's network";
  printNote(context, `this invite works only ${where}; see "${SWARM} doctor --swarm"`);
}

/**
 * Prints a created job, or the same job that existed already, with its invite. Also prints a note if peers in other networks
 * cannot use the invite. If the job has ended, prints how to train on instead.
 */
export async function printCreated(
  context: Context,
  api: Pick<ApiClient, 'job'>,
  { job, name, invite, isNew }: CreatedJob,
  { json = false }: { json?: boolean },
): Promise<void> {
  if (json) {
    await noteReach(context, invite);
    printJson(context, { schemaVersion: 1, job, name, invite, isNew });
    return;
  }
  const present = isNew ? null : await api.job(job);
  const hasEnded = present?.phase === 'finished';
  if (!hasEnded) await noteReach(context, invite);
  const exists = 'exists already, with the same settings and data';
  const phase = present === null ? '' : phaseText(present);
  printLines(context, [
    ...(isNew ? [] : [`job ${name} ${exists}, and is ${phase}, so nothing was created or changed`]),
    `job ${name}  ${job}`,
    ...(hasEnded
      ? [`next: ${withCommandName(waysOn(name))}`]
      : [`invite ${invite}`, `next: on every machine that joins, run ${SWARM} node - and paste the invite`]),
  ]);
}

/**
 * Returns lines about the data of a job: how many rows cannot be used, with the first rows of each reason, and how many
 * samples were cut or left out. The lines about the training data come before the lines about the held-out data.
 */
export function dataLines({ read, tally, heldOutPart }: JobDataReport): string[] {
  const lines = [...readLines(read), ...sampleLines(tally)];
  if (heldOutPart === null) return lines;
  const heldOut = [...readLines(heldOutPart.read), ...sampleLines(heldOutPart.tally)];
  return [...lines, ...heldOut.map((line) => `held-out data: ${line}`)];
}

function readLines(read: JobDataReport['read'] | null): string[] {
  if (read === null) return [];
  const leftOut = badRowSummary(read);
  return [...(leftOut === null ? [] : [`left out ${leftOut}`]), ...badRowLines(read)];
}

function sampleLines(tally: JobDataReport['tally']): string[] {
  // Plain text is always split into rows, so the number of split samples says nothing.
  return tallyLines({ ...tally, split: 0 });
}
