import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { CheckpointReport, VerifyOptions, VerifyReport } from '../../index.ts';
import { digestSchema } from '../../protocol/ids.ts';
import { verifyError } from '../../verify/errors.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi } from '../daemon/connect.ts';
import { usageError, withoutOutput } from '../errors.ts';
import { homeOption, integer, jsonOption } from '../options/common.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { verifyLines } from '../views/verify.ts';

interface VerifyFlags {
  home?: string;
  json?: boolean;
  from?: number;
  job?: string;
}

export function registerVerify(program: Command, context: Context): void {
  program
    .command('verify')
    .argument(
      '[job]',
      'bundle file of a job; or a job of the coordinator on this machine: its name, its digest or the beginning of the digest (default: the only job)',
    )
    .description('check the record of a job: signatures, receipts, settings, and merges bit for bit')
    .option('--from <round>', 'round of the first checkpoint to check (default: 0)', integer(0))
    .option('--job <digest>', 'whole digest that the job of a bundle must have (default: any job)')
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((job: string | undefined, flags: VerifyFlags) => verify(context, job, flags));
}

async function verify(context: Context, job: string | undefined, flags: VerifyFlags): Promise<void> {
  const progress = new ProgressLine(context);
  const onCheckpoint = ({ round, recomputed }: CheckpointReport): void =>
    progress.update(`round ${round} checked${recomputed ? ', its merge computed again' : ''}`);
  const options: VerifyOptions = {
    job: wantedJob(flags),
    from: flags.from ?? 0,
    signal: context.signal,
    onCheckpoint,
  };
  const report = await read(context, job, flags, options).finally(() => progress.clear());
  const { ok, checkpoints, recomputed, problems } = report;
  const { job: digest, name, coordinator } = report;
  if (flags.json) {
    const about = { job: digest, name, coordinator };
    printJson(context, { schemaVersion: 1, ok, checkpoints, recomputed, problems, ...about });
  } else printLines(context, verifyLines(report));
  const [first] = problems;
  if (first === undefined) return;
  const error = verifyError(first.code, first.message, { ...first.values });
  throw flags.json ? withoutOutput(error) : error;
}

async function read(
  context: Context,
  job: string | undefined,
  flags: VerifyFlags,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const { verifyBundle, verifyOwnJob } = await import('../../index.ts');
  const file = job === undefined ? null : resolve(context.cwd, job);
  const isFile =
    file !== null &&
    (await stat(file).then(
      (entry) => entry.isFile(),
      () => false,
    ));
  if (isFile) return verifyBundle(file, options);
  const api = await coordinatorApi(context, flags);
  return verifyOwnJob(api, await chooseJob(api, job), options);
}

function wantedJob({ job }: VerifyFlags): string | null {
  if (job === undefined || digestSchema.safeParse(job).success) return job ?? null;
  throw usageError('--job takes the whole digest of a job, 64 hexadecimal digits');
}
