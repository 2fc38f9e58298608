import { withDeadline } from '../../common/time/deadline.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import { callTimeoutMs, type RpcResponse } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { JobRun } from '../job-run.ts';
import { type LostRecords, lostRecords } from './lost-records.ts';

/** Number of nodes that the coordinator asks at the same time for the records that it has lost. */
const ASKED_NODES = 16;
/**
 * Time without a new record after which the coordinator asks no further members. With this limit, members that do not
 * answer cannot delay a recovery for hours.
 */
const IDLE_MS = 2 * 60_000;

type Answer = RpcResponse<'recall'>;
/** For each peer that has answered: the round after which it was asked for messages, and its answer. */
export type Answered = Map<string, { readonly after: number; readonly answer: Answer }>;

interface Deps extends Pick<CoordinatorDeps, 'network' | 'store' | 'clock' | 'log'> {
  readonly signal: AbortSignal;
}

/** Returns the lost records that follow from answers of nodes, the latest start first. */
export function recordsIn(
  answers: readonly Answer[],
  run: JobRun,
  { network, store }: Pick<Deps, 'network' | 'store'>,
): LostRecords[] {
  const { job } = run.context;
  const { digest: newest, ordinal } = run.record.checkpoint;
  const rows = store.rounds.checkpointOf(job, newest)!.ordinal;
  return lostRecords(answers, {
    self: network.signer.peerId,
    job,
    head: run.record.heads.newest.head,
    newest,
    settings: store.jobs.settings(job),
    find: (digest) => {
      const row = store.rounds.checkpointOf(job, digest);
      if (row === null) return null;
      const { message } = verifyMessage('checkpoint', row.envelope);
      return { checkpoint: message, ordinal: ordinal - (rows - row.ordinal) };
    },
  });
}

/**
 * Asks members for the records that the coordinator has lost. Asks further members until one of them has the checkpoint of
 * the newest head, or until IDLE_MS pass without a new record.
 * @param options `proofs`: answers with later heads. `members`: members to ask, in order. `answered`: answers that members
 *   have given to an earlier call; the new answers are added. `until`: time on the monotonic clock at which no member is
 *   asked any more if only checkpoints before a gap are missing
 * @returns the records, the latest start first
 */
export async function recall(
  run: JobRun,
  {
    proofs,
    members,
    answered,
    until,
  }: { proofs: readonly Answer[]; members: readonly string[]; answered: Answered; until: number },
  deps: Deps,
): Promise<LostRecords[]> {
  const { clock, log } = deps;
  const { job } = run.context;
  const { round } = run.record.checkpoint.checkpoint;
  const read = (): LostRecords[] =>
    recordsIn([...proofs, ...[...answered.values()].map(({ answer }) => answer)], run, deps);
  let lost = read();
  let idleAt = clock.monotonic() + IDLE_MS;
  const msLeft = (): number =>
    (lost[0] !== undefined && isWhole(lost[0]) ? Math.min(until, idleAt) : idleAt) - clock.monotonic();
  const unasked = (after: number): string[] =>
    members.filter((peer) => (answered.get(peer)?.after ?? Number.POSITIVE_INFINITY) > after);
  const askNext = async (peers: readonly string[], after: number): Promise<void> => {
    const maxMs = lost[0] !== undefined && isWhole(lost[0]) ? msLeft() : Number.POSITIVE_INFINITY;
    for (const [peer, answer] of await ask(job, peers, { after, maxMs }, deps)) {
      answered.set(peer, { after, answer });
    }
    const before = lost[0];
    lost = read();
    if (lost[0] !== undefined && (before === undefined || addsTo(before, lost[0])))
      idleAt = clock.monotonic() + IDLE_MS;
  };
  let after = Math.max(0, round - 1);
  const first = unasked(after);
  for (let asked = 0; asked < first.length && msLeft() > 0; asked += ASKED_NODES) {
    await askNext(first.slice(asked, asked + ASKED_NODES), after);
    const [best] = lost;
    if (best === undefined) continue;
    if (isWhole(best)) break;
    after = best.head.checkpoint.round - 1;
  }
  // The database may have rounds that are not part of the lost history, for example because the coordinator worked with
  // other nodes after the restore. The last common checkpoint is then older than the rounds asked for above.
  let isLonger = true;
  const second = unasked(0);
  for (let asked = 0; asked < second.length && isLonger && msLeft() > 0; asked += ASKED_NODES) {
    const [best] = lost;
    if (best === undefined || !mayBeLonger(best, round)) break;
    await askNext(second.slice(asked, asked + ASKED_NODES), 0);
    isLonger = addsTo(best, lost[0]!);
  }
  log.info(
    { job, members: members.length, answers: answered.size, start: lost[0]?.start.round },
    'records-recalled',
  );
  return lost;
}

async function ask(
  job: string,
  members: readonly string[],
  { after, maxMs }: { after: number; maxMs: number },
  { network, clock, signal, log }: Deps,
): Promise<(readonly [string, Answer])[]> {
  const all = members.map(async (peer) => {
    try {
      const ms = Math.min(callTimeoutMs('recall'), maxMs);
      const limits = { clock, ms, signal, what: 'the request "recall"' };
      const answer = await withDeadline(limits, (inner) =>
        network.request(peer, 'recall', { job, after }, { signal: inner }),
      );
      return [[peer, answer] as const];
    } catch (error) {
      signal.throwIfAborted();
      log.debug({ job, peer, error }, 'recall-failed');
      return [];
    }
  });
  return (await Promise.all(all)).flat();
}

/** Returns whether the records begin with the checkpoint of the newest head. */
function isWhole({ head, start }: LostRecords): boolean {
  return start.digest === head.checkpoint.digest;
}

/** Returns whether the records begin with the checkpoint of the newest head, and reach a checkpoint of the database. */
export function isComplete(lost: LostRecords): boolean {
  return isWhole(lost) && lost.ancestor !== null;
}

/** Returns whether `after` has a later head, a later start or more checkpoints than `before`. */
function addsTo(before: LostRecords, after: LostRecords): boolean {
  return (
    isNewer(after.head, before.head) ||
    after.start.digest !== before.start.digest ||
    after.checkpoints.length > before.checkpoints.length ||
    after.beforeGap.length > before.beforeGap.length
  );
}

/**
 * Returns whether checkpoints of rounds before the newest round of the database may be missing from the recovered chain.
 * @param round the newest round of the database that has a checkpoint
 */
function mayBeLonger(records: LostRecords, round: number): boolean {
  const { head, ancestor } = records;
  return ancestor === null || (!isWhole(records) && head.checkpoint.round <= round);
}
