/** The requests that a node makes to its coordinator, and the verification of their answers. */

import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import { DIAL_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { Head, Receipt } from '../../protocol/messages.ts';
import {
  callTimeoutMs,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
} from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { nodeError } from '../errors.ts';
import type { UpdateRecord } from '../store/update-record.ts';
import type { Applicant, Caller, ContactDeps, ContactPort } from './port.ts';

/**
 * Dials the addresses of a coordinator in order until one answers. Each attempt has the deadline DIAL_TIMEOUT_MS.
 * @returns the coordinator's peer id
 * @throws SwarmError NO_ADDRESS, or the error of the last address
 */
export async function connect(
  addresses: readonly string[],
  { network, clock }: { network: Pick<ContactDeps['network'], 'connect'>; clock: Caller['clock'] },
  signal: AbortSignal,
): Promise<string> {
  let last: unknown = nodeError('NO_ADDRESS', 'no address of a coordinator was given');
  for (const address of addresses) {
    try {
      const what = `connecting to ${address}`;
      return await withDeadline({ clock, ms: DIAL_TIMEOUT_MS, signal, what }, (inner) =>
        network.connect(address, { signal: inner }),
      );
    } catch (error) {
      signal.throwIfAborted();
      last = error;
    }
  }
  throw last;
}

/** Codes with which a coordinator shuts a node out. If the node asked again soon, it would get the same answer. */
const FINAL_REFUSALS: readonly unknown[] = [
  'BANNED',
  'DUPLICATE_IDENTITY',
  'INVITE_EXPIRED',
  'INVITE_REVOKED',
  'INVITE_USED',
];

/**
 * Returns whether an error is the answer of a coordinator that shuts this node out, so that the node must not retry.
 */
export function isShutOut(error: unknown): error is SwarmError {
  return isSwarmError(error, 'RPC_REFUSED') && FINAL_REFUSALS.includes(error.values.code);
}

/** Sends one request. The network ends a request earlier if it makes no progress. */
export function request<M extends RpcMethod>(
  { clock, network }: Caller,
  peer: string,
  method: M,
  body: RpcRequest<M>,
  signal: AbortSignal,
): Promise<RpcResponse<M>> {
  const limits = { clock, ms: callTimeoutMs(method), signal, what: `the request "${method}"` };
  return withDeadline(limits, (inner) => network.request(peer, method, body, { signal: inner }));
}

/** Asks the coordinator to make this node a member of a job. A member may ask again. */
export async function requestJoin(
  { name, agent, invite }: Applicant,
  deps: ContactDeps,
  { coordinator, job }: { coordinator: string; job: string },
  signal: AbortSignal,
): Promise<RpcResponse<'join'>> {
  const { engine } = deps.trainer;
  const known = deps.store.job(job);
  // A coordinator may name the digest of another coordinator's job. A speed above 0 would show it that the node works
  // for that job.
  const tokensPerSecond = known.coordinator === coordinator ? known.tokensPerSecond : 0;
  const scores = deps.scoreTrainer !== undefined;
  const sentAt = deps.clock.now();
  const body = { job, invite, name, agent, engine, tokensPerSecond, scores, sentAt, ...runOf(deps) };
  const answer = await request(deps, coordinator, 'join', body, signal);
  deps.onStanding?.(answer.standing);
  return answer;
}

/** Returns the request field `run`, the random id of this process; no field if the process has no id. */
export function runOf({ runId }: Pick<ContactDeps, 'runId'>): { run?: string } {
  return runId === undefined ? {} : { run: runId };
}

/** Keeps a record of removals for a coordinator that is restored from an old backup. */
function keepRemovals({ deps, job, coordinator }: ContactPort, envelope: Uint8Array): void {
  const { author, message } = verifyMessage('removals', envelope);
  if (author !== coordinator || message.job !== job) return;
  deps.store.kept.keepRemovals(job, { sequence: message.sequence, envelope });
}

/** Warns the owner of this node that another machine has a copy of its key. This node continues to work. */
function warnOfDuplicate({ deps, options, job }: ContactPort, since: number): void {
  deps.log.warn(
    {
      name: options.name,
      job,
      since: new Date(since).toISOString(),
      next: 'delete the file "identity" in the copied home of the other machine, or give that machine its own home (--home)',
    },
    'duplicate-identity',
  );
}

/** Phases in which a job has no work for a node. */
const CLOSED_PHASES: readonly string[] = ['queued', 'finished', 'failed'];
const OVER_PHASES: readonly string[] = ['finished', 'failed'];

/**
 * Returns the digests of the coordinator's jobs that the node may join and that are open, in the coordinator's order. A
 * queued job is not open yet. Leaves out the jobs of the node's other invites. `over` contains the names of jobs that have
 * ended. `others` says whether the coordinator also has jobs that the node may not join.
 */
export async function openJobs(
  { invite }: Pick<Applicant, 'invite'>,
  deps: ContactDeps,
  coordinator: string,
  signal: AbortSignal,
): Promise<{ open: string[]; over: string[]; others: boolean }> {
  const { jobs, others } = await request(deps, coordinator, 'jobs', { invite }, signal);
  const isTaken = (job: string): boolean =>
    deps
      .siblings()
      .some((sibling) => sibling.claims({ coordinator, job }) || sibling.names({ coordinator, job }));
  const open = jobs
    .filter(({ job, phase }) => !CLOSED_PHASES.includes(phase) && !isTaken(job))
    .map(({ job }) => job);
  const over = jobs.filter(({ phase }) => OVER_PHASES.includes(phase)).map(({ name }) => name);
  return { open, over, others };
}

/**
 * Asks for a head that is newer than `known`, and for the job's keys. Returns null when there is no such head.
 * @param options.rejoin if true, joins the job again and takes the head from the answer. This also works if the
 *   coordinator has forgotten the node.
 */
export async function requestHead(
  context: ContactPort,
  { known, rejoin }: { known: Head | null; rejoin: boolean },
  signal: AbortSignal,
): Promise<Head | null> {
  const { options, deps, coordinator, job } = context;
  const than = known ? { known: { term: known.term, sequence: known.sequence } } : {};
  const { kept } = deps.store;
  const { head, keys, duplicateSince, removals } = rejoin
    ? {
        ...(await requestJoin(options, deps, context, signal)),
        duplicateSince: undefined,
        removals: undefined,
      }
    : await request(
        deps,
        coordinator,
        'head',
        { job, ...than, ...runOf(deps), removals: kept.newestRemovals(job) },
        signal,
      );
  context.keys.learn(keys);
  deps.store.keptJobs.learnKey(job, keys);
  if (removals !== undefined) keepRemovals(context, removals);
  if (duplicateSince !== undefined) warnOfDuplicate(context, duplicateSince);
  if (head === null) return null;
  const verified = verifyHead(head, context);
  if (rejoin) await reportBehind(context, verified, signal);
  await context.headSettings.check(verified, signal);
  deps.store.kept.keepHead(job, verified, head);
  return verified;
}

/** Asks for the receipt of a round's update. Returns null when the coordinator has never seen the update. */
export async function requestReceipt(
  context: ContactPort,
  round: number,
  signal: AbortSignal,
): Promise<Receipt | null> {
  const { deps, coordinator, job } = context;
  const { update } = storedUpdate(context, round);
  const { receipt } = await request(deps, coordinator, 'receipt', { job, update }, signal);
  return receipt && keptReceipt(receipt, context);
}

/**
 * Sends a round's update to the coordinator and returns its receipt.
 * @throws SwarmError UPDATE_UNKNOWN, UPDATE_ENDED
 */
export async function submitUpdate(
  context: ContactPort,
  round: number,
  signal: AbortSignal,
): Promise<Receipt> {
  const { deps, coordinator, job } = context;
  const { envelope, outcome } = storedUpdate(context, round);
  if (envelope === null) {
    throw nodeError('UPDATE_ENDED', `the update of round ${round} is already ${outcome}`, { job, round });
  }
  const { receipt } = await request(deps, coordinator, 'submit', { update: envelope }, signal);
  return keptReceipt(receipt, context);
}

function storedUpdate({ deps, job }: ContactPort, round: number): UpdateRecord {
  const record = deps.store.update(job, round);
  if (record) return record;
  throw nodeError('UPDATE_UNKNOWN', `the store has no update of round ${round}`, { job, round });
}

/** @throws SwarmError HEAD_MISMATCH if the head is of another job or author; the errors of `verifyMessage` */
export function verifyHead(bytes: Uint8Array, expected: { coordinator: string; job: string }): Head {
  const { author, message } = verifyMessage('head', bytes);
  const { coordinator, job } = expected;
  if (author === coordinator && message.job === job) return message;
  throw nodeError(
    'HEAD_MISMATCH',
    `expected a head of job ${job}, signed by ${coordinator}, but got one of job ${message.job}, signed by ${author}`,
    {
      job: message.job,
      author,
      expected: { coordinator, job },
    },
  );
}

/**
 * If this node has a later head than the coordinator, tells the coordinator so. Such a coordinator was restored from an
 * old backup, and then asks its nodes for the records that it has lost.
 * @returns whether the coordinator is behind
 */
export async function reportBehind(
  { deps, coordinator, job }: Pick<ContactPort, 'deps' | 'coordinator' | 'job'>,
  head: Head,
  signal: AbortSignal,
): Promise<boolean> {
  const known = deps.store.kept.newestHead(job);
  if (known === null || !isNewer(known, head)) return false;
  await request(deps, coordinator, 'head', { job, known }, signal);
  return true;
}

/** Verifies a receipt and keeps its signed form. @throws the errors of `verifyReceipt` */
export function keptReceipt(bytes: Uint8Array, context: ContactPort): Receipt {
  const receipt = verifyReceipt(bytes, context);
  const { round, update: digest } = receipt;
  context.deps.store.kept.keepReceipt(context.job, { round, digest, envelope: bytes });
  return receipt;
}

/** @throws SwarmError RECEIPT_MISMATCH if the receipt is for another job or node, or not signed by the coordinator */
function verifyReceipt(bytes: Uint8Array, { coordinator, job, deps }: ContactPort): Receipt {
  const { author, message } = verifyMessage('receipt', bytes);
  const { peerId } = deps.network.signer;
  if (author === coordinator && message.job === job && message.peer === peerId) return message;
  throw nodeError(
    'RECEIPT_MISMATCH',
    `expected a receipt of job ${job} for ${peerId}, signed by ${coordinator}, but got one of job ${message.job} for ${message.peer}, signed by ${author}`,
    { author, job: message.job, peer: message.peer },
  );
}
