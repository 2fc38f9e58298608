import { isSwarmError } from '../../common/errors.ts';
import { isNewer } from '../../protocol/head-order.ts';
import type { Checkpoint, Head, MessageKind, Messages } from '../../protocol/messages.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import type { NewCheckpoint } from '../store/rounds.ts';
import type { StoredReceipt } from '../store/store.ts';
import { type SignedChange, settingsOfHead } from './lost-settings.ts';

/** A checkpoint that the coordinator has signed, and that its database lacks. */
export interface LostCheckpoint extends Pick<NewCheckpoint, 'round' | 'digest' | 'envelope'> {
  readonly checkpoint: Checkpoint;
}

/** Messages that a coordinator has signed and lost, and that its nodes have returned. */
export interface LostRecords {
  /** The newest head. It is later than the head in the database. */
  readonly head: Head;
  /** Checkpoints that the database lacks, oldest first. Each is the parent of the next, and the head names the last. */
  readonly checkpoints: readonly LostCheckpoint[];
  /**
   * Digest of the parent of the first of `checkpoints`; null if the database lacks this parent. If
   * `checkpoints` is empty, the digest of the head's checkpoint, which the database has.
   */
  readonly ancestor: string | null;
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
  /** The signed changes of the job's settings in the database, oldest first. */
  readonly settings: readonly Uint8Array[];
  /** Returns whether the database has a checkpoint. */
  readonly has: (digest: string) => boolean;
}

/**
 * Collects the records that a coordinator has lost from the answers of its nodes. Ignores messages of other jobs, and
 * messages that this coordinator has not signed, so a node cannot invent a record.
 * @returns null if no answer has a later head whose checkpoint is in an answer or in the database
 */
export function lostRecords(
  answers: readonly RpcResponse<'recall'>[],
  { self, job, head: known, settings: ownSettings, has }: Known,
): LostRecords | null {
  const own = <K extends 'head' | 'checkpoint' | 'receipt' | 'settings' | 'removals'>(
    kind: K,
    bytes: Uint8Array,
  ): Verified<K>[] => {
    const found = verified(kind, bytes);
    return found?.author === self && found.message.job === job ? [found] : [];
  };
  const checkpoints = new Map<string, LostCheckpoint>();
  for (const envelope of answers.flatMap((answer) => answer.checkpoints)) {
    for (const { digest, message } of own('checkpoint', envelope)) {
      checkpoints.set(digest, { round: message.round, digest, envelope, checkpoint: message });
    }
  }
  const isKnown = (digest: string): boolean => checkpoints.has(digest) || has(digest);
  const heads = answers
    .flatMap((answer) => (answer.head === null ? [] : own('head', answer.head)))
    .map(({ message }) => message)
    .filter((head) => isNewer(head, known) && isKnown(head.checkpoint.digest));
  const head = heads.reduce<Head | null>((newest, one) => (isNewer(one, newest) ? one : newest), null);
  if (head === null) return null;
  const chain: LostCheckpoint[] = [];
  let at: string | null = head.checkpoint.digest;
  while (at !== null && !has(at)) {
    const lost = checkpoints.get(at);
    if (lost === undefined) break;
    chain.unshift(lost);
    at = lost.checkpoint.parent;
  }
  const receipts = answers
    .flatMap((answer) => answer.receipts)
    .flatMap((bytes) => own('receipt', bytes))
    .map(({ message: { job: _, update: digest, ...receipt } }) => ({ digest, ...receipt }));
  const changes = (envelopes: readonly Uint8Array[]): SignedChange[] =>
    envelopes.flatMap((envelope) =>
      own('settings', envelope).map(({ digest, message: record }) => ({ digest, record, envelope })),
    );
  const settings = settingsOfHead(
    { head, checkpoints: chain.map(({ checkpoint }) => checkpoint) },
    { own: changes(ownSettings), kept: changes(answers.flatMap((answer) => answer.settings)) },
  );
  const removals = answers
    .flatMap((answer) => (answer.removals === undefined ? [] : own('removals', answer.removals)))
    .map(({ message }) => message)
    .reduce<Messages['removals'] | null>((a, b) => (a === null || b.sequence > a.sequence ? b : a), null);
  const ancestor = at !== null && has(at) ? at : null;
  return { head, checkpoints: chain, ancestor, receipts, settings, removals };
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
