import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { resolveHomes } from '../../common/user-folders.ts';
import type { CheckpointReport, VerifyOptions, VerifyReport } from '../../index.ts';
import { digestSchema } from '../../protocol/ids.ts';
import { looksLikeInvite } from '../../protocol/invite.ts';
import { verifyError } from '../../verify/errors.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi } from '../daemon/connect.ts';
import { usageError, withoutOutput } from '../errors.ts';
import { homeOption, integer, isPeerAddress, jsonOption } from '../options/common.ts';
import { hasInviteVariable, inviteFileOption, readTarget } from '../options/target-input.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { verifyLines } from '../views/verify.ts';

interface VerifyFlags {
  home?: string;
  json?: boolean;
  from?: number;
  job?: string;
  inviteFile?: string;
}

export function registerVerify(program: Command, context: Context): void {
  program
    .command('verify')
    .argument(
      '[job...]',
      'bundle file of a job; or its invite, or multiaddrs of its coordinator ("-" reads them from stdin); or a job of the coordinator on this machine: its name, its digest or the beginning of the digest (default: the only job)',
    )
    .description('check the record of a job: signatures, receipts, settings, and merges bit for bit')
    .option('--from <round>', 'round of the first checkpoint to check (default: 0)', integer(0))
    .option('--job <digest>', 'whole digest that the job must have (default: any job)')
    .addOption(inviteFileOption())
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((job: string[], flags: VerifyFlags) => verify(context, job, flags));
}

async function verify(context: Context, words: readonly string[], flags: VerifyFlags): Promise<void> {
  const progress = new ProgressLine(context);
  const onCheckpoint = ({ round, recomputed }: CheckpointReport): void =>
    progress.update(`round ${round} checked${recomputed ? ', its merge computed again' : ''}`);
  const options: VerifyOptions = {
    job: wantedJob(flags),
    from: flags.from ?? 0,
    signal: context.signal,
    onCheckpoint,
  };
  const report = await read(context, words, flags, options).finally(() => progress.clear());
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
  words: readonly string[],
  flags: VerifyFlags,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const { verifyBundle, verifyOwnJob, verifySwarm } = await import('../../index.ts');
  const { environment, cwd, version } = context;
  if (isTarget(context, words, flags)) {
    const target = await readTarget(context, words, flags);
    const keyFolder = resolveHomes(undefined, environment, cwd).reader;
    return verifySwarm({ ...target, keyFolder, version }, options);
  }
  const [job, ...others] = words;
  if (others.length > 0) throw usageError('give one job, or one bundle file');
  if (job !== undefined && (await isFile(resolve(cwd, job)))) return verifyBundle(resolve(cwd, job), options);
  const api = await coordinatorApi(context, flags);
  return verifyOwnJob(api, await chooseJob(api, job), options);
}

/** Returns whether the job is named by an invite or by addresses. */
function isTarget(context: Context, [first]: readonly string[], { inviteFile }: VerifyFlags): boolean {
  if (inviteFile !== undefined) return true;
  if (first === undefined) return hasInviteVariable(context);
  return first === '-' || looksLikeInvite(first) || isPeerAddress(first);
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

function wantedJob({ job }: VerifyFlags): string | null {
  if (job === undefined || digestSchema.safeParse(job).success) return job ?? null;
  throw usageError('--job takes the whole digest of a job, 64 hexadecimal digits');
}
