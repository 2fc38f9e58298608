import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { Option } from 'commander';
import { isSystemError } from '../../common/errors.ts';
import { isSwarmError } from '../../index.ts';
import { type KnownJob, readKnownJobs } from '../../node/store/known-jobs.ts';
import { INVITE_CHARACTERS } from '../../protocol/access/invite.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { printNote } from '../print.ts';
import { parseTarget, parseTargets, type Target, type WeightedTarget, wordsOf } from './target.ts';

/** Argument that stands for the standard input. */
const STDIN = '-';
/** Environment variable with an invite or with multiaddrs. */
const VARIABLE = 'SWARM_INVITE';
/** Maximum number of bytes that are read from a file or from stdin: enough for the invites of a node, with blank lines. */
const TEXT_BYTES = 20 * INVITE_CHARACTERS;
/**
 * Time without further input after which the invites of a node are complete, in milliseconds. A terminal and some pipes
 * stay open after the last line. Pasted lines arrive together.
 */
const QUIET_MS = 300;
/**
 * Time in which the user of a terminal can paste a further invite after the last one, in milliseconds. It is long enough to
 * copy an invite from another window, and an empty line ends it.
 */
const FURTHER_MS = 15_000;

/** Returns the advice of commands that take part in jobs. @param homeFlag the result of `homeFlag` (see views/thanks.ts) */
function nodeAdvice(homeFlag: string): string {
  return `run "${SWARM} node -${homeFlag}", press Enter and paste the invite, or name a file that contains it with --invite-file`;
}
/** Advice of the command that installs a service. */
const SERVICE_ADVICE =
  'run the command again and paste the invite, or name a file that contains it with --invite-file';
/** Advice of all other commands. */
const INVITE_ADVICE = `run the command again with the invite: in a file that --invite-file names, or in ${VARIABLE}`;

/** Help of an argument that names a job by its invite. */
export const TARGET_HELP =
  'invite of the job, or multiaddrs of its coordinator; "-" reads them from stdin. Other users of this machine can read arguments, so pass an invite by stdin, --invite-file or SWARM_INVITE instead';

/** Returns the option --invite-file. `readTarget` also reads SWARM_INVITE. */
export const inviteFileOption = (): Option =>
  new Option(
    '--invite-file <file>',
    'file with the invite of the job, or with multiaddrs of its coordinator; the environment variable SWARM_INVITE can contain the same text',
  );

/** Help of the argument of a command that takes part in several jobs. */
export const TARGETS_HELP =
  'invites of the jobs, or multiaddrs of their coordinators (default: the jobs that this node has joined before and that have not ended); "-" reads them from stdin, one per line. A node with several jobs trains one round at a time. To give a job twice the time of the others, write =2 directly after its invite (swarm1…=2). Other users of this machine can read arguments, so pass invites by stdin, --invite-file or SWARM_INVITE instead';

export interface TargetOptions {
  /** Value of --job. */
  readonly job?: string;
  /** Value of --invite-file. */
  readonly inviteFile?: string;
}

/**
 * Reads an invite, or the multiaddrs of a coordinator: from the arguments, from stdin if the argument is "-",
 * from the file of --invite-file, or else from SWARM_INVITE. Every command that takes an invite uses this
 * function, so that a token need never be an argument, which other users of the machine could read.
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export async function readTarget(
  context: InputContext,
  given: readonly string[],
  options: TargetOptions,
): Promise<Target> {
  const input = { fromStdin: () => lineFromStdin(context), next: INVITE_ADVICE };
  return parseTarget(await readWords(context, given, options, input), options.job);
}

/** Returns whether the environment variable for invites is set. */
export function hasInviteVariable({ environment }: Pick<Context, 'environment'>): boolean {
  return (environment[VARIABLE] ?? '').trim() !== '';
}

/**
 * Reads the jobs of a node from the same places as {@link readTarget}. From stdin, it reads all lines. If no place has an
 * invite, returns the jobs that the node of the home has joined before.
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export async function readTargets(
  context: InputContext & Pick<Context, 'clock'>,
  given: readonly string[],
  options: TargetOptions,
  { home, homeFlag }: { home: string; homeFlag: string },
): Promise<readonly (WeightedTarget | KnownJob)[]> {
  const next = nodeAdvice(homeFlag);
  const isGiven = given.length > 0 || options.inviteFile !== undefined || options.job !== undefined;
  if (!isGiven && !hasInviteVariable(context)) {
    const known = await readKnownJobs(home);
    if (known.length > 0) return known;
    throw usageError(`no invite was given, and the node in ${home} belongs to no job that still runs`, next);
  }
  const input = { fromStdin: () => linesFromStdin(context), next };
  return parseTargets(await readWords(context, given, options, input), options.job);
}

/**
 * Reads invites from the same places as {@link readTargets}, else from stdin.
 * @returns no invite if no place has one and `needed` is false
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export async function readInvites(
  context: InputContext & Pick<Context, 'clock'>,
  options: TargetOptions,
  { needed }: { needed: boolean },
): Promise<readonly WeightedTarget[]> {
  const isGiven = options.inviteFile !== undefined || hasInviteVariable(context);
  if (!isGiven && !needed) return [];
  const input = { fromStdin: () => linesFromStdin(context), next: SERVICE_ADVICE };
  return parseTargets(await readWords(context, isGiven ? [] : [STDIN], options, input), options.job);
}

type InputContext = Pick<Context, 'cwd' | 'environment' | 'stderr' | 'stdin' | 'signal'>;

async function readWords(
  { cwd, environment }: InputContext,
  given: readonly string[],
  { inviteFile }: TargetOptions,
  { fromStdin, next }: { fromStdin: () => Promise<string>; next: string },
): Promise<readonly string[]> {
  if (given.length > 0 && inviteFile !== undefined) {
    throw usageError('give the invite as an argument or with --invite-file, not both');
  }
  if (given.length > 1 && given.includes(STDIN)) {
    throw usageError(
      'an invite or an address was given beside "-", which reads all of them from stdin',
      'press Enter directly after "-", and then paste the invite',
    );
  }
  if (given[0] === STDIN) return words(await fromStdin(), 'stdin', next);
  if (given.length > 0) return wordsOf(given.join(' '));
  if (inviteFile === undefined) return words(environment[VARIABLE] ?? '', VARIABLE, next);
  const path = resolve(cwd, inviteFile);
  return words(await fromFile(path), path, next);
}

/**
 * Reads lines until the input ends, or until it pauses after a line that is not blank. In a terminal, waits for a further
 * invite, up to an empty line or for FURTHER_MS.
 */
async function linesFromStdin({
  stdin,
  stderr,
  signal,
  clock,
}: Pick<Context, 'stderr' | 'stdin' | 'signal' | 'clock'>): Promise<string> {
  if (stdin.isTerminal) printNote({ stderr }, 'paste the invite, then press Enter');
  const end = new AbortController();
  let cancel = (): void => {};
  let text = '';
  const afterPause = (): void => {
    if (!stdin.isTerminal || /\n[^\S\n]*\n$/.test(text) || !isRight(text)) end.abort();
    else {
      const note = `press Enter to go on, or paste the invite of a further job; without input, goes on in ${FURTHER_MS / 1000} s`;
      printNote({ stderr }, note);
      cancel = clock.after(FURTHER_MS, () => end.abort());
    }
  };
  try {
    for await (const chunk of stdin.read(AbortSignal.any([signal, end.signal]))) {
      cancel();
      text += chunk;
      if (text.length > TEXT_BYTES) break;
      if (/\S\s*\n\s*$/.test(text)) cancel = clock.after(QUIET_MS, afterPause);
    }
  } catch (error) {
    if (!end.signal.aborted) throw error;
  } finally {
    cancel();
  }
  return text;
}

/** Returns whether a text has only right invites and multiaddrs. The caller reports the error of a wrong text. */
function isRight(text: string): boolean {
  try {
    return parseTargets(text.split('\n').flatMap(wordsOf), undefined).length > 0;
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return false;
  }
}

async function lineFromStdin({
  stdin,
  stderr,
  signal,
}: Pick<Context, 'stderr' | 'stdin' | 'signal'>): Promise<string> {
  if (stdin.isTerminal) printNote({ stderr }, 'paste the invite, then press Enter');
  // In a terminal, the first line is the whole input. A pipe is read to its end, or to its first line that is not blank.
  let text = '';
  for await (const chunk of stdin.read(signal)) {
    text += chunk;
    if (text.length > TEXT_BYTES || /\S\s*\n/.test(text)) break;
  }
  return text;
}

async function fromFile(path: string): Promise<string> {
  let text = '';
  try {
    for await (const chunk of createReadStream(path, { encoding: 'utf8', end: TEXT_BYTES })) text += chunk;
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error;
    const next = 'check the path after --invite-file';
    throw cliError('INVITE_FILE_NOT_FOUND', `there is no file ${path}`, { path }, { cause: error, next });
  }
  return text;
}

/**
 * Splits a text into its words.
 * @param source file, variable or stream that the text comes from, for error messages
 * @param next advice if the text has no invite
 */
function words(text: string, source: string, next: string): string[] {
  const found = text.slice(0, TEXT_BYTES).split('\n').flatMap(wordsOf);
  if (found.length > 0 && text.length <= TEXT_BYTES) return found;
  const missing = source === VARIABLE ? 'no invite was given' : `there is no invite in ${source}`;
  throw usageError(
    text.length > TEXT_BYTES
      ? `${source} has more than ${TEXT_BYTES} bytes, so it cannot be an invite`
      : missing,
    next,
  );
}
