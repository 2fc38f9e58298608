import { resolve } from 'node:path';
import type { Command } from 'commander';
import { resolveCache } from '../../common/files/user-folders.ts';
import { table } from '../../common/text.ts';
import { requireKept } from '../../coordinator/require-kept.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { registryFolder } from '../adapter/with-registry.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, JOB_ARGUMENT, JOB_HELP } from '../daemon/connect.ts';
import { usageError } from '../errors.ts';
import { writeBundle } from '../job/bundle.ts';
import { printCreated, submitJob } from '../job/create.ts';
import { writeJobReport } from '../job/report/write.ts';
import { type WaitOptions, waitForJob } from '../job/wait.ts';
import { baseFolder } from '../models/base-model.ts';
import { homeOption, jsonOption, number, roundOrBest } from '../options/common.ts';
import { printJson, printLines, printWarning, printWhole, printWrapped, terminalColumns } from '../print.ts';
import { afterRollBackText, undoneBestText } from '../views/checkpoints.ts';
import { presetLines } from '../views/preset.ts';
import {
  evaluationLines,
  historyLines,
  jobLines,
  orderText,
  phaseCell,
  progressText,
  rollBackText,
  STATUS_INDENT,
} from '../views/status.ts';
import { afterOption, priorityOption, registerJobChanges } from './job-changes.ts';

interface CommonOptions {
  home?: string;
  json?: boolean;
}

interface RollBackOptions extends CommonOptions {
  to: number | 'best';
  reason?: string;
}

interface CreateOptions extends CommonOptions {
  dryRun?: boolean;
  priority: number;
  after?: string;
  from?: string;
  round?: number | 'best';
}

export function registerJob(program: Command, context: Context): void {
  const job = program
    .command('job')
    .helpCommand(false)
    .description('create and control jobs on the coordinator of this machine');
  const add = (name: string, text: string): Command =>
    job.command(name).description(text).addOption(homeOption()).addOption(jsonOption());

  add('create', 'create a job from a YAML file, and print the invite for its nodes')
    .argument('<file>', 'YAML file with the settings of the job; README.md has an example')
    .option(
      '--dry-run',
      'only check the file, the base and the data, and print the job with all settings, defaults included, and with its sizes',
    )
    .option(
      '--from <job>',
      'start from a checkpoint of this job, which has the same base. To start from another adapter, write the key "start" into the file',
    )
    .option(
      '--round <round>',
      'with --from: round of the checkpoint, or "best" for the best checkpoint of the job (default: the newest checkpoint)',
      roundOrBest,
    )
    .addOption(priorityOption().default(0))
    .addOption(afterOption())
    .action((file: string, options: CreateOptions) => create(context, file, options));
  add('list', 'list the jobs with their phase, round and loss').action((options: CommonOptions) =>
    list(context, options),
  );
  add('show', 'show the settings, state and data of one job')
    .argument(...JOB_ARGUMENT)
    .action((id: string | undefined, options: CommonOptions) => show(context, id, options));
  for (const [action, text] of [
    [
      'pause',
      'pause a job until it is resumed; if the open round has too few updates for a merge, it ends at once as a null round, and otherwise it is merged first',
    ],
    ['resume', 'continue a paused job, or open a queued one'],
    ['stop', 'end a job for good; its checkpoints are kept'],
  ] as const) {
    const command = add(action, text).argument(...JOB_ARGUMENT);
    if (action !== 'resume')
      command.option(
        '--reason <text>',
        'reason for it, which "lora-swarm status" and the nodes show (default: none)',
      );
    command.action((id: string | undefined, options: CommonOptions & { reason?: string }) =>
      act(context, id, action, options),
    );
  }
  add('rollback', 'restore the adapter of an earlier checkpoint, and continue from there')
    .argument(...JOB_ARGUMENT)
    .requiredOption(
      '--to <round>',
      'round of the checkpoint, or "best" for the best checkpoint of the job',
      roundOrBest,
    )
    .option(
      '--reason <text>',
      'reason for the roll-back, which the nodes and the events of the job show (default: none)',
    )
    .action((id: string | undefined, options: RollBackOptions) => rollBack(context, id, options));
  registerJobChanges(add, context);
  add('bundle', 'write one file from which anyone can verify the job, with "lora-swarm verify FILE"')
    .argument('<job>', JOB_HELP)
    .argument('<file>', 'file to write; it must not exist')
    .option(
      '--no-blobs',
      'leave out adapters, deltas and payloads; the file is smaller, but "lora-swarm verify" cannot compute the merges again',
    )
    .action((id: string, file: string, options: CommonOptions & { blobs: boolean }) =>
      writeBundle(context, id, file, options),
    );
  add(
    'report',
    'write one HTML file about the job: settings, losses, checkpoints, tasks, contributors, problems and digests. It has no invite and no address',
  )
    .argument('<job>', JOB_HELP)
    .argument('<file>', 'HTML file to write')
    .option('--force', 'replace the file if it exists')
    .action((id: string, file: string, options: CommonOptions & { force?: boolean }) =>
      writeJobReport(context, id, file, options),
    );
  add(
    'wait',
    'print the events of a job until it ends, reaches a round, or is paused because of a problem (exit code 9)',
  )
    .argument(...JOB_ARGUMENT)
    .option(
      '--until <what>',
      'what to wait for: "finished", or "round=N" for the checkpoint of round N',
      'finished',
    )
    .option('--timeout <seconds>', 'give up with exit code 7 after this time (default: never)', number(0.001))
    .action((id: string | undefined, options: WaitOptions) => waitForJob(context, id, options));
}

async function create(context: Context, path: string, options: CreateOptions): Promise<void> {
  const [{ readJobFile }, { presetJob }, { jobWarmupWarning }, { startedJob }] = await Promise.all([
    import('../../lora/finetune/settings/job-file.ts'),
    import('../../lora/finetune/preset.ts'),
    import('../../lora/finetune/settings/warnings.ts'),
    import('../../coordinator/jobs/job-start.ts'),
  ]);
  const { cwd, clock, signal, environment } = context;
  const file = await readJobFile(resolve(cwd, path));
  const start = await startFolder(context, file.spec, options);
  const job = { written: { ...file.written, start }, spec: { ...file.spec, start } };
  const base = await baseFolder(context, job.spec.base);
  const starting = { home: registryFolder(context), cacheDir: resolveCache(environment, cwd), signal };
  const { spec: read, written } = await startedJob(job.written, { ...job.spec, base }, starting);
  const preset = read.preset && (await presetJob(written, read, { now: clock.now(), signal }));
  if (preset && !options.json) {
    // Print the choices as YAML comments, so that the output of a dry run is a valid job file.
    const lines = presetLines(read.preset!, preset.choices, terminalColumns(context) - '# '.length);
    printLines(
      context,
      lines.map((line) => `# ${line}`),
    );
  }
  const spec = preset ? preset.spec : read;
  const warning = jobWarmupWarning(spec);
  if (warning !== null) printWarning(context, warning);
  if (options.dryRun) await dryRun(context, spec, options);
  else await submit(context, spec, options);
}

/** Returns what the job starts from: the folder of the checkpoint that --from names, or what the job file names. */
async function startFolder(
  context: Context,
  { start }: JobSpec,
  { from, round, ...options }: CreateOptions,
): Promise<string | null> {
  if (from === undefined) {
    if (round === undefined) return start;
    throw usageError('--round needs --from', 'add --from JOB, or leave out --round');
  }
  if (start !== null) {
    throw usageError(
      `the job file already starts from ${start}`,
      'leave out --from, or remove the key "start" from the job file',
    );
  }
  const checkpoint = await (await coordinatorApi(context, options)).checkpoint(from, round ?? 'latest');
  requireKept(checkpoint);
  return checkpoint.path;
}

/** Checks a job without a coordinator. */
async function dryRun(context: Context, spec: JobSpec, { json }: CommonOptions): Promise<void> {
  const { checkJobSpec, checkLines } = await import('../job/check.ts');
  const check = await checkJobSpec(context, spec);
  for (const warning of check.warnings) printWarning(context, warning);
  if (json) printJson(context, { schemaVersion: 1, spec, check });
  else printWhole(context, [...(await yamlLines(spec)), ...checkLines(check)]);
}

async function submit(context: Context, spec: JobSpec, options: CreateOptions): Promise<void> {
  const { priority, after = null } = options;
  const api = await coordinatorApi(context, options);
  const created = await submitJob(context, api, { ...spec, preset: null }, { priority, after });
  await printCreated(context, api, created, options);
}

async function list(context: Context, options: CommonOptions): Promise<void> {
  const jobs = await (await coordinatorApi(context, options)).jobs();
  if (options.json) printJson(context, { schemaVersion: 1, jobs });
  else if (jobs.length === 0) printLines(context, ['no jobs', `next: ${SWARM} job create FILE.yaml`]);
  else {
    printLines(
      context,
      table(
        [
          ['job', 'digest', 'phase', 'priority', 'round', 'nodes', 'held-out loss'],
          ...jobs.map((j) => [
            j.name,
            j.job.slice(0, 12),
            phaseCell(j),
            String(j.priority),
            progressText(j).replace('round ', ''),
            String(j.peers),
            (j.heldOutLoss ?? j.baseLoss)?.toFixed(4) ?? '–',
          ]),
        ],
        { columns: terminalColumns(context) },
      ),
    );
  }
}

async function show(context: Context, id: string | undefined, options: CommonOptions): Promise<void> {
  const api = await coordinatorApi(context, options);
  const detail = await api.job(await chooseJob(api, id));
  if (options.json) printJson(context, { schemaVersion: 1, ...detail });
  else {
    const createdAt = new Date(detail.manifest.createdAt).toISOString();
    const lines = [...jobLines(detail), ...evaluationLines(detail), ...historyLines(detail)];
    printWrapped(context, lines, STATUS_INDENT);
    printWhole(context, ['', ...(await yamlLines({ ...detail.manifest, createdAt }))]);
  }
}

async function act(
  context: Context,
  id: string | undefined,
  action: 'pause' | 'resume' | 'stop',
  options: CommonOptions & { reason?: string },
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const job = await chooseJob(api, id);
  const before = await api.job(job);
  const summary = await api.act(job, action, options.reason ?? '');
  if (options.json) printJson(context, { schemaVersion: 1, ...summary });
  else printLines(context, [orderText(summary, action, before)]);
}

async function rollBack(
  context: Context,
  id: string | undefined,
  { to, reason, json, ...options }: RollBackOptions,
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const job = await chooseJob(api, id);
  const before = await api.job(job);
  const summary = await api.rollBack(job, to, reason);
  if (json) printJson(context, { schemaVersion: 1, ...summary });
  else {
    const what = to === 'best' ? 'its best checkpoint' : `the checkpoint of round ${to}`;
    const undone = to === 'best' ? [] : undoneBestText(before, to);
    printLines(context, [rollBackText(summary, what), afterRollBackText(summary), ...undone]);
  }
}

async function yamlLines(value: object): Promise<string[]> {
  const { stringify } = await import('yaml');
  return stringify(value).trimEnd().split('\n');
}
