import { z } from 'zod';
import { isSwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { updateLimits } from '../../lora/update/index.ts';
import { decodeCbor, sha256 } from '../../protocol/cbor.ts';
import { bytesSchema, digestSchema } from '../../protocol/ids.ts';
import { GOSSIP_MESSAGE_BYTES, STALE_ROUNDS } from '../../protocol/limits.ts';
import { UPDATE_ITEMS, type Update } from '../../protocol/messages.ts';
import type { ReceiptCode } from '../../protocol/receipts.ts';
import { type Verified, verifyMessage } from '../../protocol/signing.ts';
import type { RoundFacts } from '../store/store.ts';

/** Reason for refusing an update. The author's program reads the code, and people read the detail. */
export interface Refusal {
  readonly code: ReceiptCode;
  readonly detail: string;
}

/** Current facts about the job, its rounds and the author. An update's header is checked against them. */
export interface HeaderFacts {
  readonly job: string;
  readonly term: number;
  /** The round whose merge an update would join if it arrived now; null if the job merges no more updates. */
  readonly mergeRound: number | null;
  /** Maximum number of supervised tokens in a row. */
  readonly sequenceLength: number;
  /** Number of rows in an optimiser step. */
  readonly batchSize: number;
  readonly layout: AdapterLayout;
  /** The round that the update names; null if it has not opened or is too old. */
  readonly round: RoundFacts | null;
  /** Whether the author is a member of the job. */
  readonly admitted: boolean;
  /**
   * Whether a different update of the author for the same round is recorded or being checked. Also true if the author
   * has been excluded from the round because it signed two different updates.
   */
  readonly conflicts: boolean;
}

/** Refusal of an update whose author is not a member of the job now. */
export const NOT_ADMITTED: Refusal = { code: 'not-admitted', detail: 'the node has not joined this job' };

type Check = (update: Update, author: string, facts: HeaderFacts) => Refusal | null;

/** Reads a message of the topic `updates`, and verifies its signature. If this fails, the author is unknown. */
export function readUpdate(bytes: Uint8Array): Verified<'update'> | Refusal {
  if (bytes.byteLength > GOSSIP_MESSAGE_BYTES) {
    return refuse(
      'too-large',
      `the message has ${bytes.byteLength} bytes; the maximum is ${GOSSIP_MESSAGE_BYTES}`,
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

/** The claims of an update whose signature has not been verified. */
export interface ClaimedUpdate {
  /** Digest of a job. */
  readonly job: string;
  readonly round: number;
  /** Digest of the payload. */
  readonly payload: string;
}

const claimedEnvelopeSchema = z.object({ body: bytesSchema });
const claimSchema = z.object({
  job: digestSchema,
  round: z.int().positive(),
  payload: z.object({ digest: digestSchema }),
});

/** Reads the claims of an update without verifying its signature. Returns null if the message is not an update. */
export function claimedUpdate(bytes: Uint8Array): ClaimedUpdate | null {
  try {
    const { body } = decodeCbor(bytes, claimedEnvelopeSchema, bytes.byteLength, UPDATE_ITEMS);
    const claim = decodeCbor(body, claimSchema, body.byteLength, UPDATE_ITEMS);
    return { job: claim.job, round: claim.round, payload: claim.payload.digest };
  } catch {
    return null;
  }
}

/** Runs all checks that do not need the payload, cheapest first. Returns null if the header passes. */
export function checkHeader(update: Update, author: string, facts: HeaderFacts): Refusal | null {
  for (const check of CHECKS) {
    const refusal = check(update, author, facts);
    if (refusal) return refusal;
  }
  return null;
}

const CHECKS: readonly Check[] = [
  function job(update, _author, facts) {
    if (update.job === facts.job) return null;
    return refuse('wrong-job', `the update names job ${update.job}`);
  },
  function admission(_update, _author, facts) {
    return facts.admitted ? null : NOT_ADMITTED;
  },
  function term(update, _author, facts) {
    if (update.term === facts.term) return null;
    return refuse('wrong-term', `the update names term ${update.term}, but the job is in term ${facts.term}`);
  },
  function round(update, _author, facts) {
    const { mergeRound } = facts;
    if (mergeRound === null) return refuse('wrong-round', 'the job merges no more updates');
    const age = mergeRound - update.round;
    if (age >= 0 && age <= STALE_ROUNDS && facts.round) return null;
    return refuse(
      'wrong-round',
      `the update is for round ${update.round}, but the next merge is for round ${mergeRound}`,
    );
  },
  // This check comes before the checks of the content, because any two different updates for one round prove a misdeed.
  function conflict(update, _author, { conflicts }) {
    if (!conflicts) return null;
    return refuse('conflicting', `the node signed two different updates for round ${update.round}`);
  },
  function parent(update, _author, facts) {
    const { parent: expected } = facts.round!;
    if (update.parent === expected) return null;
    return refuse(
      'wrong-parent',
      `round ${update.round} starts from checkpoint ${short(expected)}, but the update from ${short(update.parent)}`,
    );
  },
  function assignment(update, author, facts) {
    const given = facts.round!.assignments.find(({ peer }) => peer === author);
    if (!given) return refuse('not-assigned', `round ${update.round} has no data for this node`);
    if (update.start !== given.start || update.end !== given.end) {
      return refuse(
        'not-assigned',
        `round ${update.round} assigned rows ${given.start} to ${given.end}, but the update names ${update.start} to ${update.end}`,
      );
    }
    if (update.steps > given.steps) {
      return refuse(
        'not-assigned',
        `the update claims ${update.steps} steps, but the round assigned ${given.steps}`,
      );
    }
    const most = update.steps * facts.batchSize * facts.sequenceLength;
    if (update.tokens <= most) return null;
    return refuse(
      'not-assigned',
      `the update claims ${update.tokens} tokens, but ${update.steps} steps have at most ${most}`,
    );
  },
  function preset(update, _author, facts) {
    const { preset: expected } = facts.round!;
    if (update.preset === expected) return null;
    return refuse(
      'wrong-preset',
      `round ${update.round} asks for the preset "${expected}", but the update has "${update.preset}"`,
    );
  },
  function size(update, _author, facts) {
    const { maximumBytes } = updateLimits(facts.layout, update.preset);
    const { size: declared, digest } = update.payload;
    if (declared > maximumBytes) {
      return refuse(
        'too-large',
        `the update declares ${declared} bytes; with the preset "${update.preset}", the maximum in this job is ${maximumBytes} bytes`,
      );
    }
    const { inline } = update;
    if (inline === null) return null;
    if (inline.byteLength !== declared) {
      return refuse(
        'size-mismatch',
        `the update declares ${declared} bytes, but its payload has ${inline.byteLength}`,
      );
    }
    if (sha256(inline) === digest) return null;
    return refuse('size-mismatch', `the payload does not have the declared digest ${short(digest)}`);
  },
];

/**
 * Returns whether a refusal with this code proves that the sender broke the protocol. Gossipsub lowers the score of
 * such a sender.
 */
export function isBreach(code: ReceiptCode): boolean {
  return code === 'too-large' || code === 'malformed' || code === 'bad-signature';
}

function refuse(code: ReceiptCode, detail: string): Refusal {
  return { code, detail };
}

function short(digest: string): string {
  return `${digest.slice(0, 12)}…`;
}
