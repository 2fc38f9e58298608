import { open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { resolveHomes } from '../../common/files/user-folders.ts';
import {
  type ApiClient,
  type CheckpointReport,
  type HeldOutLosses,
  isSwarmError,
  type Problem,
  type SwarmError,
  type VerifyOptions,
  type VerifyReport,
  type WantedJob,
} from '../../index.ts';
import { looksLikeInvite } from '../../protocol/access/invite.ts';
import { digestSchema, peerIdSchema } from '../../protocol/ids.ts';
import { homeRole, isDaemonAway } from '../../storage/daemon-home.ts';
import { verifyError } from '../../verify/errors.ts';
import { RECEIPTS_FILE_BYTES } from '../../verify/receipts.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi } from '../daemon/connect.ts';
import { failureJson, failureOf, usageError, withoutOutput } from '../errors.ts';
import { cacheFolder } from '../folders.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import { homeOption, integer, isPeerAddress, jsonOption } from '../options/common.ts';
import { environmentCompute } from '../options/engine.ts';
import { hasInviteVariable, inviteFileOption, readTarget } from '../options/target-input.ts';
import { refuseUnused } from '../options/unused.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { receiptsLines, verifyLines } from '../views/verify.ts';

interface VerifyFlags {
  home?: string;
  json?: boolean;
  from?: number;
  job?: string;
  coordinator?: string;
  inviteFile?: string;
  data?: string;
  scores?: boolean;
  model?: string;
}

export function registerVerify(program: Command, context: Context): void {
  program
    .command('verify')
    .argument(
      '[job...]',
      'what to check: a bundle file of a job, a file of receipts from the public page of a coordinator, the invite of a job, the multiaddrs of its coordinator or of a node, or a job of the coordinator or node on this machine, given by its name, its digest or the beginning of the digest (default: the only job); "-" reads an invite or multiaddrs from stdin',
    )
    .description('check the record of a job: signatures, receipts, settings, and merges bit for bit')
    .option('--from <round>', 'round of the first checkpoint to check (default: 0)', integer(0))
    .option(
      '--job <digest>',
      'whole digest that the job must have (default: any job). With the address of a node, the default is the job of the node on this machine; if that node has no job or several jobs, --job is required',
    )
    .option('--coordinator <peer>', 'peer id that the coordinator must have (default: any peer id)')
    .option(
      '--data <job-file>',
      'job file of the job; with this option, the command measures the held-out losses of the checkpoints again, with the data files that the job file names (default: held-out losses are not checked)',
    )
    .option(
      '--model <model>',
      `with --data: base of the job, as ${BASE_MODEL} (default: the base in the job file)`,
    )
    .option(
      '--scores',
      'with --data: also measure the scores of the updates again, for the merges whose payloads are kept (default: only the arithmetic of the scores is checked)',
    )
    .addOption(inviteFileOption())
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((job: string[], flags: VerifyFlags, command: Command) => verify(context, job, flags, command));
}

/** Options that have no effect when the command verifies a file of receipts. */
const NOT_FOR_RECEIPTS = ['from', 'inviteFile', 'data', 'model', 'scores', 'home'];

async function verify(
  context: Context,
  words: readonly string[],
  flags: VerifyFlags,
  command: Command,
): Promise<void> {
  const receipts = await receiptsText(context, words);
  if (receipts !== null) {
    refuseUnused(command, NOT_FOR_RECEIPTS, 'without a file of receipts');
    const { verifyReceipts } = await import('../../index.ts');
    const report = await verifyReceipts(receipts, wantedJob(flags));
    if (flags.json) printJson(context, { schemaVersion: 1, ok: true, ...report });
    else printLines(context, receiptsLines(report));
    return;
  }
  const wanted = wantedJob(flags);
  const losses = await lossMeter(context, flags);
  const progress = new ProgressLine(context);
  const onCheckpoint = ({ round, recomputed }: CheckpointReport): void =>
    progress.update(`round ${round} checked${recomputed ? ', its merge computed again' : ''}`);
  const options: VerifyOptions = {
    ...wanted,
    from: flags.from ?? 0,
    signal: context.signal,
    losses,
    scores: losses?.scores ?? null,
    onCheckpoint,
  };
  const report = await read(context, words, flags, options)
    .finally(async () => {
      progress.clear();
      await losses?.close();
    })
    .catch((error: unknown) => {
      if (!flags.json || !isSwarmError(error)) throw error;
      const nothing = { ok: false, checkpoints: [], recomputed: 0, problems: [] };
      printJson(context, { ...failureJson(failureOf(error)), ...nothing });
      throw withoutOutput(error);
    });
  const { ok, checkpoints, recomputed, problems } = report;
  const { job: digest, name, coordinator, namesCoordinator, held } = report;
  if (flags.json) {
    const about = { job: digest, name, coordinator, namesCoordinator, ...(held && { held }) };
    printJson(context, { schemaVersion: 1, ok, checkpoints, recomputed, problems, ...about });
  } else printLines(context, verifyLines(report));
  const error = gravest(problems);
  if (error !== null) throw flags.json ? withoutOutput(error) : error;
}

/**
 * Returns the error for the oldest problem that proves a fault of the coordinator. If there is none, returns the error for
 * the oldest problem. Returns null if there is no problem.
 */
export function gravest(problems: readonly Problem[]): SwarmError | null {
  const errors = problems.map(({ code, message, values }) => verifyError(code, message, { ...values }));
  return errors.find(({ kind }) => kind === 'disproved') ?? errors[0] ?? null;
}

async function read(
  context: Context,
  words: readonly string[],
  flags: VerifyFlags,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const { verifyBundle, verifySwarm } = await import('../../index.ts');
  const { environment, cwd, version } = context;
  if (isTarget(context, words, flags)) {
    const target = await readTarget(context, words, flags);
    const keyFolder = resolveHomes(undefined, environment, cwd).reader;
    const { node: ownNode } = resolveHomes(flags.home, environment, cwd);
    return verifySwarm({ ...target, keyFolder, version, ownNode }, options);
  }
  const [job, ...others] = words;
  if (others.length > 0) throw usageError('give one job, or one bundle file');
  if (job !== undefined && (await isFile(resolve(cwd, job)))) return verifyBundle(resolve(cwd, job), options);
  return verifyOwn(context, job, flags, options);
}

/** Verifies a job of the coordinator on this machine. If no coordinator runs, verifies what the node of this machine keeps. */
async function verifyOwn(
  context: Context,
  job: string | undefined,
  flags: VerifyFlags,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const { verifyOwnJob, verifyOwnNode } = await import('../../index.ts');
  const { node: home } = resolveHomes(flags.home, context.environment, context.cwd);
  let api: ApiClient;
  try {
    api = await coordinatorApi(context, flags);
  } catch (error) {
    if (!isDaemonAway(error)) throw error;
    if (homeRole(home) === 'node') return verifyOwnNode({ home, job }, options);
    if (job === undefined || !/[/\\]/.test(job)) throw error;
    throw usageError(
      `there is no file ${resolve(context.cwd, job)}`,
      'check the path, or name a job of this machine',
    );
  }
  return verifyOwnJob(api, await chooseJob(api, job), options);
}

/** Opens the base and the data with which held-out losses are measured; null without --data. */
async function lossMeter(
  context: Context,
  { data, model, scores = false }: VerifyFlags,
): Promise<HeldOutLosses | null> {
  if (data === undefined) {
    if (scores) throw usageError('--scores has an effect only with --data');
    if (model !== undefined) throw usageError('--model has an effect only with --data');
    return null;
  }
  const { readJobFile } = await import('../../lora/finetune/settings/job-file.ts');
  const { openHeldOut } = await import('../../index.ts');
  const { cwd, environment } = context;
  const { spec } = await readJobFile(resolve(cwd, data));
  const base = await baseFolder(context, model ?? spec.base);
  const compute = environmentCompute(environment);
  return openHeldOut({ base, data: spec.data, cacheDir: await cacheFolder(context), compute, scores });
}

/** Returns the text of the file that the command names, if it looks like a file of receipts; null for other files. */
async function receiptsText({ cwd }: Context, [word, ...others]: readonly string[]): Promise<string | null> {
  if (word === undefined || others.length > 0) return null;
  const path = resolve(cwd, word);
  if (!(await isFile(path))) return null;
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size > RECEIPTS_FILE_BYTES) return null;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, 0);
    // A bundle never begins with "{", so a file that does is read as a file of receipts.
    return bytesRead === 1 && buffer.toString() === '{' ? await file.readFile('utf8') : null;
  } finally {
    await file.close();
  }
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

function wantedJob(flags: VerifyFlags): WantedJob {
  const { job = null, coordinator = null }: WantedJob = flags;
  if (job !== null && !digestSchema.safeParse(job).success)
    throw usageError('--job takes the whole digest of a job, 64 hexadecimal digits');
  if (coordinator !== null && !peerIdSchema.safeParse(coordinator).success)
    throw usageError('--coordinator takes a peer id, which begins with 12D3KooW');
  return { job, coordinator };
}
