import { decode } from '@ipld/dag-cbor';
import { isSwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { updateLimits } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { GOSSIP_MESSAGE_BYTES, STALE_ROUNDS } from '../../protocol/limits.ts';
import type { Update } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import type { Assignment, Preset } from '../round/plan.ts';

/** Why an update is not taken: the code that its author acts on, and for people what was found. */
export interface Refusal {
  readonly code: ReceiptCode;
  readonly detail: string;
}

/** A round as its updates are held against it. */
export interface RoundFacts {
  readonly round: number;
  readonly parent: string;
  readonly preset: Preset;
  readonly openedAt: number;
  readonly assignments: readonly Assignment[];
}

/** What the checks need to know of a job at this moment. */
export interface JobFacts {
  readonly job: string;
  readonly term: number;
  /** The round that an update would be merged with if it came now; null when no more will be merged. */
  readonly mergeUpdates: number | null;
  /** Predicted tokens in a row, and rows in an optimiser step. */
  readonly sequenceLength: number;
  readonly batchSize: number;
  readonly layout: AdapterLayout;
  /** A round that has been opened; null for others and for those too old to matter. */
  round(number: number): RoundFacts | null;
  admitted(peer: string): boolean;
  /** Payload digest of what a peer has in a round, recorded or in the works; null when nothing. */
  known(round: number, peer: string): string | null;
}

type Check = (update: Update, author: string, view: JobFacts) => Refusal | null;

/**
 * Opens a message from the updates topic. What fails here has no author who could be answered.
 * @returns the verified update, or why it is none
 */
export function verifyUpdate(bytes: Uint8Array): Verified<'update'> | Refusal {
  if (bytes.byteLength > GOSSIP_MESSAGE_BYTES) {
    return refuse(
      'too-large',
      `the message has ${bytes.byteLength} bytes, at most ${GOSSIP_MESSAGE_BYTES} are read`,
    );
  }
  try {
    return verifyMessage('update', bytes);
  } catch (error) {
    if (!isSwarmError(error)) throw error;
    if (error.code === 'SIGNATURE_INVALID') return refuse('bad-signature', error.message);
    if (error.code === 'MESSAGE_TOO_LARGE') return refuse('too-large', error.message);
    return refuse('malformed', error.message);
  }
}

/** The job that an unverified message claims to be about; null when it does not say. For finding who is to judge it. */
export function claimedJob(bytes: Uint8Array): string | null {
  try {
    const { job } = decode<{ job: unknown }>(decode<{ body: Uint8Array }>(bytes).body);
    return typeof job === 'string' ? job : null;
  } catch {
    return null;
  }
}

/** Everything that can be said without looking at the payload, cheapest first. null: fetch it and look. */
export function checkHeader(update: Update, author: string, view: JobFacts): Refusal | null {
  for (const check of CHECKS) {
    const refusal = check(update, author, view);
    if (refusal) return refusal;
  }
  return null;
}

const CHECKS: readonly Check[] = [
  function job(update, _author, view) {
    if (update.job === view.job) return null;
    return refuse('wrong-job', `the update names job ${update.job}`);
  },
  function admission(_update, author, view) {
    return view.admitted(author) ? null : refuse('not-admitted', 'the node has not joined this job');
  },
  function term(update, _author, view) {
    if (update.term === view.term) return null;
    return refuse('wrong-term', `the update follows term ${update.term}, the job is in term ${view.term}`);
  },
  function round(update, _author, view) {
    const { mergeUpdates } = view;
    if (mergeUpdates === null) return refuse('wrong-round', 'the job merges no more updates');
    const age = mergeUpdates - update.round;
    if (age >= 0 && age <= STALE_ROUNDS && view.round(update.round)) return null;
    return refuse(
      'wrong-round',
      `the update is for round ${update.round}, the next merge is that of round ${mergeUpdates}`,
    );
  },
  function parent(update, _author, view) {
    const { parent: expected } = view.round(update.round)!;
    if (update.parent === expected) return null;
    return refuse(
      'wrong-parent',
      `round ${update.round} starts from ${short(expected)}, not ${short(update.parent)}`,
    );
  },
  function assignment(update, author, view) {
    const given = view.round(update.round)!.assignments.find(({ peer }) => peer === author);
    if (!given) return refuse('not-assigned', `round ${update.round} has no data for this node`);
    if (update.start !== given.start || update.end !== given.end) {
      return refuse(
        'not-assigned',
        `round ${update.round} gave rows ${given.start} to ${given.end}, the update names ${update.start} to ${update.end}`,
      );
    }
    if (update.steps > given.steps) {
      return refuse('not-assigned', `${update.steps} steps where the round asked for ${given.steps}`);
    }
    const most = update.steps * view.batchSize * view.sequenceLength;
    if (update.tokens <= most) return null;
    return refuse('not-assigned', `${update.tokens} tokens where ${update.steps} steps have at most ${most}`);
  },
  function duplicate(update, author, view) {
    const known = view.known(update.round, author);
    if (known === null) return null;
    return refuse('duplicate', `round ${update.round} already has ${short(known)} of this node`);
  },
  function preset(update, _author, view) {
    const { preset: expected } = view.round(update.round)!;
    if (update.preset === expected) return null;
    return refuse('wrong-preset', `round ${update.round} asked for "${expected}", not "${update.preset}"`);
  },
  function size(update, _author, view) {
    const { maximumBytes } = updateLimits(view.layout, update.preset);
    const { size: declared, digest } = update.payload;
    if (declared > maximumBytes) {
      return refuse(
        'too-large',
        `${declared} bytes declared, "${update.preset}" takes at most ${maximumBytes} here`,
      );
    }
    const { inline } = update;
    if (inline === null) return null;
    if (inline.byteLength !== declared) {
      return refuse('size-mismatch', `${declared} bytes declared, ${inline.byteLength} came`);
    }
    if (sha256(inline) === digest) return null;
    return refuse('size-mismatch', `the payload does not have the declared digest ${short(digest)}`);
  },
];

/** What a decoder's complaint means to the author. */
export function payloadRefusal(code: string, message: string): Refusal {
  if (code === 'UPDATE_PRESET') return refuse('wrong-preset', message);
  if (code === 'UPDATE_SCALE') return refuse('not-finite', message);
  return refuse('bad-payload', message);
}

/** What a failed fetch of an announced payload means to the author. */
export function fetchRefusal(code: string, message: string): Refusal {
  if (code === 'BLOB_SIZE' || code === 'BLOB_CORRUPT') return refuse('size-mismatch', message);
  return refuse('unavailable', message);
}

/** Whether only a peer that breaks the protocol can have sent this, so that gossip may hold it against the sender. */
export function isBreach(code: ReceiptCode): boolean {
  return code === 'too-large' || code === 'malformed' || code === 'bad-signature';
}

function refuse(code: ReceiptCode, detail: string): Refusal {
  return { code, detail };
}

function short(digest: string): string {
  return `${digest.slice(0, 12)}…`;
}
