import { decodeInvite, looksLikeInvite } from '../../protocol/access/invite.ts';
import { digestSchema, peerIdSchema } from '../../protocol/ids.ts';
import { SWARM } from '../command-name.ts';
import { usageError } from '../errors.ts';
import { isPeerAddress } from './common.ts';

/** Maximum weight of a job. */
const MAX_WEIGHT = 1000;

/** A job and the coordinator that runs it. */
export interface Target {
  /** Multiaddrs of the job's coordinator. */
  addresses: readonly string[];
  /** Digest of the job; null if the coordinator chooses it. */
  job: string | null;
  /** Token of the invite; null if there is none. */
  token: string | null;
}

/**
 * Parses an invite (addresses, job and token), or the multiaddrs of a coordinator.
 * @param job value of --job
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export function parseTarget(target: readonly string[], job: string | undefined): Target {
  const [first] = target;
  if (job !== undefined && !digestSchema.safeParse(job).success) {
    throw usageError(
      '--job takes the whole digest of a job, 64 hexadecimal digits',
      `copy the digest from the output of "${SWARM} job list --json"`,
    );
  }
  if (first !== undefined && looksLikeInvite(first)) {
    if (target.length > 1)
      throw usageError(
        'an invite already contains the addresses, so no address may follow it',
        'give only the invite',
      );
    const invite = decodeInvite(first);
    if (job !== undefined && invite.job !== null && invite.job !== job) {
      throw usageError(`the invite is for job ${invite.job}, not ${job}`, 'leave out --job');
    }
    return { addresses: invite.addresses, job: invite.job ?? job ?? null, token: invite.token };
  }
  const wrong = target.find((address) => !isPeerAddress(address));
  if (wrong !== undefined) {
    throw usageError(
      `"${wrong}" is neither an invite nor a multiaddr that ends in /p2p/PEER`,
      'paste only the invite, which begins with "swarm1"; if you have none, ask the operator of the job for one',
    );
  }
  for (const address of target) {
    const peer = address.slice(address.lastIndexOf('/') + 1);
    if (peerIdSchema.safeParse(peer).success) continue;
    throw usageError(
      `the address "${address}" ends with "${peer}", which is not a peer id: "12D3KooW" and 44 further characters`,
      'copy the whole address from the output of "lora-swarm status" on the coordinator, without a comma',
    );
  }
  return { addresses: target, job: job ?? null, token: null };
}

/** Marks that may stand before an invite, and marks that may follow it. */
const OPENING_MARKS = '"\'`<([{“‘«';
const CLOSING_MARKS = '"\'`>)]}”’».,;:';

/**
 * Splits a line into its invites and multiaddrs. If the line contains exactly one invite, leaves out words that are neither,
 * such as the label before an invite that another command printed. A word with "=" is no label, but an option without its
 * dashes or a weight after a space, which must not be ignored.
 * @throws SwarmError USAGE
 */
export function wordsOf(line: string): string[] {
  const found = line
    .split(/\s+/)
    .filter((word) => word !== '')
    .map(withoutMarks);
  if (found.filter(looksLikeInvite).length !== 1) return found;
  const setting = found.find((word) => !looksLikeTarget(word) && word.includes('='));
  if (setting === undefined) return found.filter(looksLikeTarget);
  throw usageError(
    `"${setting}" beside the invite is neither an invite nor a multiaddr`,
    'write a weight directly after its invite, without a space (swarm1…=2), and an option with two dashes (--threads 2)',
  );
}

/**
 * Returns an invite without the quotation marks, brackets or punctuation marks around it, and any other word as it is. A
 * regular expression would take quadratic time, and an invite can come from a stranger.
 */
function withoutMarks(word: string): string {
  let [start, end] = [0, word.length];
  while (start < end && OPENING_MARKS.includes(word[start]!)) start++;
  while (end > start && CLOSING_MARKS.includes(word[end - 1]!)) end--;
  const inner = word.slice(start, end);
  return looksLikeInvite(inner) ? inner : word;
}

/** Returns whether an argument is an invite, a multiaddr or "-". All other arguments are names of jobs. */
export function looksLikeTarget(text: string): boolean {
  return text === '-' || text[0] === '/' || looksLikeInvite(text);
}

/** A job of a node, with the job's weight. */
export interface WeightedTarget extends Target {
  weight: number;
}

/** A target with its weight: an invite or a multiaddr, "=", and a number. Neither an invite nor a peer id contains "=". */
const WEIGHTED = /^(.*)=([^=/]*)$/s;

/**
 * Parses the jobs of a node: any number of invites, and multiaddrs of coordinators. The multiaddrs of one coordinator are
 * one target. An invite that ends in `=2` gives its job the weight 2.
 * @param job value of --job
 * @throws SwarmError USAGE, INVITE_INVALID
 */
export function parseTargets(words: readonly string[], job: string | undefined): WeightedTarget[] {
  const groups = new Map<string, { words: string[]; weight: number }>();
  for (const word of words) {
    const [, target = word, weight] = WEIGHTED.exec(word) ?? [];
    const key = keyOf(target);
    const group = groups.get(key) ?? { words: [], weight: 1 };
    if (!group.words.includes(target)) group.words.push(target);
    if (weight !== undefined) group.weight = parseWeight(weight, target);
    groups.set(key, group);
  }
  if (groups.size > 1 && job !== undefined) {
    throw usageError(
      '--job names the job of one coordinator, but this node gets several invites or coordinators',
      'leave out --job; an invite names its job',
    );
  }
  return [...groups.values()].map((group) => ({ ...parseTarget(group.words, job), weight: group.weight }));
}

/** Returns a text that is the same for all multiaddrs of one coordinator. */
function keyOf(target: string): string {
  return isPeerAddress(target) ? target.slice(target.lastIndexOf('/')) : target;
}

function parseWeight(text: string, target: string): number {
  const weight = Number(text);
  if (text.trim() !== '' && weight > 0 && weight <= MAX_WEIGHT) return weight;
  throw usageError(
    `"${text}" after "${target.slice(0, 12)}…=" is not a weight, which is a number above 0 and at most ${MAX_WEIGHT}`,
    'to give a job twice the time of the others, write =2 directly after its invite (swarm1…=2)',
  );
}
