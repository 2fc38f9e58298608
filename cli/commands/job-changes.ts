import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { CHANGEABLE_KEYS } from '../../coordinator/job-changes.ts';
import type { JobDetail } from '../../index.ts';
import { MAX_PRIORITY } from '../../protocol/limits.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { coordinatorApi, JOB_HELP } from '../daemon/connect.ts';
import { printCreated, withProgress } from '../job/create.ts';
import { integer } from '../options/common.ts';
import { keyValues } from '../options/key-values.ts';
import { printJson, printLines, printWrapped, terminalColumns } from '../print.ts';
import { changeLines } from '../views/status.ts';
import { sweepInviteLines, sweepLines } from '../views/sweeps.ts';

interface CommonOptions {
  home?: string;
  json?: boolean;
}

interface CloneOptions extends CommonOptions {
  set?: string[];
  name?: string;
  priority?: number;
  after?: string;
}

/** Registers the commands that change jobs or copy them. @param add adds a subcommand of `job` */
export function registerJobChanges(add: (name: string, text: string) => Command, context: Context): void {
  add('set', 'change settings of a job while it runs')
    .argument('<job>', JOB_HELP)
    .argument(
      '<setting...>',
      `setting to change, as KEY=VALUE; the keys are ${CHANGEABLE_KEYS.join(', ')}, as in a job file. New values of priority and tasks.every apply immediately, and all other settings apply from the next round on`,
    )
    .option('--reason <text>', 'reason for the change, which the history of the job shows')
    .action((id: string, settings: string[], options: CommonOptions & { reason?: string }) =>
      change(context, id, settings, options),
    );
  add(
    'sweep',
    'compare variants of a job by successive halving: the coordinator repeatedly stops the half with the higher held-out losses, until one variant is left',
  )
    .argument(
      '[file]',
      'YAML file of the sweep (docs/workflow.md); without this file, the command lists all sweeps',
    )
    .action((file: string | undefined, options: CommonOptions) => sweep(context, file, options));
  add(
    'clone',
    'create a copy of a job, with the base, data and held-out rows that the coordinator already has; the copy starts from the initial adapter of the job, or from a new adapter if lora or seed differs. "lora-swarm job create FILE --from JOB" starts from a checkpoint',
  )
    .argument('<job>', JOB_HELP)
    .option(
      '--set <setting...>',
      'setting that differs in the copy, as KEY=VALUE with a key of the job file, such as lora.rank=32 or data.train=FILE',
    )
    .option('--name <name>', 'name of the copy (default: the name of the job and a number, such as poems-2)')
    .addOption(priorityOption('the priority of the job that is copied'))
    .addOption(afterOption())
    .action((id: string, options: CloneOptions) => clone(context, id, options));
}

async function sweep(context: Context, file: string | undefined, options: CommonOptions): Promise<void> {
  const api = await coordinatorApi(context, options);
  if (file === undefined) {
    const sweeps = await api.sweeps();
    if (options.json) printJson(context, { schemaVersion: 1, sweeps });
    else if (sweeps.length === 0) printLines(context, ['no sweeps']);
    else printWrapped(context, sweepLines(sweeps, terminalColumns(context)), 2);
    return;
  }
  const [{ readSweepFile }, { sweepJobs }] = await Promise.all([
    import('../../coordinator/client/sweep-jobs.ts'),
    import('../../index.ts'),
  ]);
  const created = await sweepJobs(api, await readSweepFile(resolve(context.cwd, file)), {
    signal: context.signal,
  });
  if (options.json) {
    printJson(context, { schemaVersion: 1, ...created });
    return;
  }
  printLines(context, [
    ...sweepLines([created.sweep], terminalColumns(context)),
    ...sweepInviteLines(created.jobs),
    `next: on every machine that joins, run ${SWARM} node - and paste all of the invites; ${SWARM} job sweep shows the results`,
  ]);
}

/**
 * @param text text that the help shows as the default. Without this text, commander shows the default value.
 */
export function priorityOption(text?: string): Option {
  const end = text === undefined ? '' : ` (default: ${text})`;
  return new Option(
    '--priority <number>',
    `priority of the job. A node whose invite names no job joins the open job with the highest priority${end}`,
  ).argParser(integer(-MAX_PRIORITY, MAX_PRIORITY));
}

export function afterOption(): Option {
  return new Option(
    '--after <job>',
    'keep the job in the queue until this other job has finished or was stopped (default: the job opens at once)',
  );
}

async function change(
  context: Context,
  id: string,
  settings: readonly string[],
  { reason = '', json, ...options }: CommonOptions & { reason?: string },
): Promise<void> {
  const changes = await keyValues(settings);
  const api = await coordinatorApi(context, options);
  const before = await api.job(id);
  const after = await api.changeSettings(id, changes, reason);
  if (json) printJson(context, { schemaVersion: 1, ...after });
  else printLines(context, changeLines(before, after));
}

async function clone(
  context: Context,
  id: string,
  { set = [], name, priority, after, ...options }: CloneOptions,
): Promise<void> {
  const [{ cloneJob }, { absoluteChanges }] = await Promise.all([
    import('../../index.ts'),
    import('../../lora/finetune/settings/absolute-paths.ts'),
  ]);
  const changes = absoluteChanges(await keyValues(set), context.cwd);
  const api = await coordinatorApi(context, options);
  const what = {
    name: name ?? null,
    changes,
    ...(priority !== undefined && { priority }),
    ...(after && { after }),
  };
  const created = await withProgress(
    context,
    (progress) => cloneJob(api, id, { ...what, ...progress }),
    Object.keys(changes).some((key) => key.startsWith('data.'))
      ? ['data', 'adapter', 'baseline']
      : ['adapter', 'baseline'],
  );
  if (created.isNew && !options.json) {
    const [original, copy] = await Promise.all([api.job(id), api.job(created.job)]);
    printLines(context, [cloneStartText(original, copy)]);
  }
  await printCreated(context, api, created, options);
}

/** Returns from which adapter a copy of a job starts. */
export function cloneStartText(
  original: Pick<JobDetail, 'name' | 'manifest' | 'roundsDone'>,
  { manifest }: Pick<JobDetail, 'manifest'>,
): string {
  const { name, roundsDone } = original;
  const isSame = manifest.adapter.initial.digest === original.manifest.adapter.initial.digest;
  const from = isSame ? `the initial adapter of job ${name}` : 'a new adapter';
  const other =
    roundsDone === 0
      ? ''
      : `, not from a checkpoint of job ${name}; for that, run: ${SWARM} job create FILE --from ${name}`;
  return `the copy starts from ${from}${other}`;
}
