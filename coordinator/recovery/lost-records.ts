import { isSwarmError } from '../../common/errors.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import type { Checkpoint, Head, MessageKind, Messages } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/requests/rpc.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import type { NewCheckpoint } from '../store/rounds.ts';
import type { StoredReceipt } from '../store/store.ts';
import { type SignedChange, settingsOfHead } from './lost-settings.ts';

/** A checkpoint that the coordinator has signed, and that its database lacks. */
export interface LostCheckpoint extends Pick<NewCheckpoint, 'round' | 'digest' | 'envelope'> {
  readonly checkpoint: Checkpoint;
}

/** The checkpoint from which a job continues. `ordinal`: number of checkpoints of the job before it. */
export interface Start extends Pick<Checkpoint, 'round' | 'adapter'> {
  readonly digest: string;
  readonly ordinal: number;
}

/** Messages that a coordinator has signed and lost, and has now fetched from its nodes. */
export interface LostRecords {
  /** The newest head. It is later than the head in the database. */
  readonly head: Head;
  /** The checkpoint of the head, or an earlier one. */
  readonly start: Start;
  /** Checkpoints that the database lacks, oldest first. Each is the parent of the next, and the last is `start`. */
  readonly checkpoints: readonly LostCheckpoint[];
  /**
   * Digest of the parent of the first of `checkpoints`; null if the database lacks this parent. If `checkpoints` is
   * empty, the digest of `start`, which the database has.
   */
  readonly ancestor: string | null;
  /**
   * If `ancestor` is null: checkpoints on the other side of the gap, oldest first. The first continues the newest checkpoint
   * of the database, and each is the parent of the next.
   */
  readonly beforeGap: readonly LostCheckpoint[];
  /** All changes of the job's settings that the job has from now on, oldest first. */
  readonly settings: readonly SignedChange[];
  readonly receipts: readonly StoredReceipt[];
  /** The newest record of removals; null if no node has one. */
  readonly removals: Messages['removals'] | null;
}

interface Known {
  /** Peer id of this coordinator. */
  readonly self: string;
  readonly job: string;
  /** The newest head in the database. */
  readonly head: Head;
  /** Digest of the newest checkpoint in the database. */
  readonly newest: string;
  /** The signed changes of the job's settings in the database, oldest first. */
  readonly settings: readonly Uint8Array[];
  /** Returns a checkpoint of the database; null if the database lacks it. */
  readonly find: (digest: string) => { readonly checkpoint: Checkpoint; readonly ordinal: number } | null;
}

/**
 * Collects the records that a coordinator has lost from the answers of its nodes. Ignores messages of other jobs, and
 * messages that this coordinator has not signed, so a node cannot invent a record.
 *
 * The results have the same head, but start at different checkpoints: at the checkpoint of the head if an answer or the
 * database has it, and at earlier checkpoints, down to the newest checkpoint of the database. The coordinator needs an
 * earlier start if no node has the checkpoint of the head, or if no node has its adapter. This happens if the
 * coordinator ended after it had sent the head, and before a node had fetched the checkpoint and the adapter.
 * @returns the possible results, the latest start first; empty if no answer has a later head
 */
export function lostRecords(
  answers: readonly RpcResponse<'recall'>[],
  { self, job, head: known, newest, settings: ownSettings, find }: Known,
): LostRecords[] {
  const own = <K extends 'head' | 'checkpoint' | 'receipt' | 'settings' | 'removals'>(
    kind: K,
    bytes: Uint8Array,
  ): Verified<K>[] => {
    const found = verified(kind, bytes);
    return found?.author === self && found.message.job === job ? [found] : [];
  };
  const heads = answers
    .flatMap((answer) => (answer.head === null ? [] : own('head', answer.head)))
    .map(({ message }) => message);
  const head = heads.reduce<Head | null>((latest, one) => (isNewer(one, latest) ? one : latest), null);
  if (head === null || !isNewer(head, known)) return [];
  const checkpoints = new Map<string, LostCheckpoint>();
  for (const envelope of answers.flatMap((answer) => answer.checkpoints)) {
    for (const { digest, message } of own('checkpoint', envelope)) {
      checkpoints.set(digest, { round: message.round, digest, envelope, checkpoint: message });
    }
  }
  const changes = (envelopes: readonly Uint8Array[]): SignedChange[] =>
    envelopes.flatMap((envelope) =>
      own('settings', envelope).map(({ digest, message: record }) => ({ digest, record, envelope })),
    );
  const ownChanges = changes(ownSettings);
  const kept = changes(answers.flatMap((answer) => answer.settings));
  const receipts = answers
    .flatMap((answer) => answer.receipts)
    .flatMap((bytes) => own('receipt', bytes))
    .map(({ message: { job: _, update: digest, ...receipt } }) => ({ digest, ...receipt }));
  const removals = answers
    .flatMap((answer) => (answer.removals === undefined ? [] : own('removals', answer.removals)))
    .map(({ message }) => message)
    .reduce<Messages['removals'] | null>((a, b) => (a === null || b.sequence > a.sequence ? b : a), null);

  const parent = head.checkpoint.delta?.parent;
  const ordinals = new Map(heads.map(({ checkpoint: { digest, ordinal } }) => [digest, ordinal]));
  if (parent !== undefined) ordinals.set(parent, head.checkpoint.ordinal - 1);
  const from = (digest: string): LostRecords => {
    const chain: LostCheckpoint[] = [];
    let at: string | null = digest;
    while (at !== null && find(at) === null) {
      const lost = checkpoints.get(at);
      if (lost === undefined) break;
      chain.unshift(lost);
      at = lost.checkpoint.parent;
    }
    const ancestor = at === null ? null : find(at);
    const below = ancestor === null ? beforeGap(newest, chain[0]!.checkpoint, [...checkpoints.values()]) : [];
    const { round, adapter } = (checkpoints.get(digest) ?? find(digest)!).checkpoint;
    const counted = ancestor === null ? head.checkpoint.ordinal - 1 : ancestor.ordinal + chain.length;
    return {
      head,
      start: { digest, round, adapter, ordinal: ordinals.get(digest) ?? counted },
      checkpoints: chain,
      ancestor: ancestor === null ? null : at,
      beforeGap: below,
      settings: settingsOfHead(
        { head, checkpoints: [...below, ...chain].map(({ checkpoint }) => checkpoint) },
        { own: ownChanges, kept },
      ),
      receipts,
      removals,
    };
  };
  const newestOwn = find(newest)!.checkpoint;
  const between = [...checkpoints.values()]
    .filter(({ checkpoint, round }) => isLater(checkpoint, newestOwn) && round < head.checkpoint.round)
    .sort((a, b) => (isLater(a.checkpoint, b.checkpoint) ? -1 : 1))
    .map(({ digest }) => digest);
  const starts = new Set([
    head.checkpoint.digest,
    ...(parent === undefined ? [] : [parent]),
    ...between,
    newest,
  ]);
  return [...starts].filter((digest) => checkpoints.has(digest) || find(digest) !== null).map(from);
}

/**
 * Returns those of the given checkpoints that lead from a checkpoint of the database towards a gap, oldest first. After a
 * change of the term, the coordinator may have continued from an earlier checkpoint. Therefore, only checkpoints of the same
 * term as the checkpoint above the gap count, and only as long as each has one successor.
 * @param from digest of the checkpoint of the database
 */
export function beforeGap(
  from: string,
  above: Pick<Checkpoint, 'term' | 'round'>,
  checkpoints: readonly LostCheckpoint[],
): LostCheckpoint[] {
  const possible = checkpoints.filter(
    ({ round, checkpoint }) => checkpoint.term === above.term && round < above.round,
  );
  const successors = Map.groupBy(possible, ({ checkpoint }) => checkpoint.parent);
  const found: LostCheckpoint[] = [];
  for (let next = successors.get(from); next?.length === 1; next = successors.get(next[0]!.digest)) {
    found.push(next[0]!);
  }
  return found;
}

/** Returns whether a coordinator has signed `a` after `b`: in a later term, or in the same term for a later round. */
function isLater(a: Checkpoint, b: Checkpoint): boolean {
  return a.term === b.term ? a.round > b.round : a.term > b.term;
}

/** Verifies a message; returns null if the message is not valid. */
export function verified<K extends MessageKind>(kind: K, bytes: Uint8Array): Verified<K> | null {
  try {
    return verifyMessage(kind, bytes);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    return null;
  }
}
