import type { Head, Receipt } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { PhaseContext } from '../context.ts';
import { nodeError } from '../errors.ts';
import type { UpdateRecord } from '../store/node-store.ts';
import { ask, openHead, rejoin } from './join.ts';

/** What became of a round's update; null when the coordinator has never seen it. */
export async function askReceipt(
  context: PhaseContext,
  round: number,
  signal: AbortSignal,
): Promise<Receipt | null> {
  const { deps, coordinator, job } = context;
  const { update } = recordOf(context, round);
  const { receipt } = await ask(deps, coordinator, 'receipt', { job, update }, signal);
  return receipt && openReceipt(context, receipt);
}

/** Sends a round's update straight to the coordinator. */
export async function submit(context: PhaseContext, round: number, signal: AbortSignal): Promise<Receipt> {
  const { deps, coordinator } = context;
  const { envelope, outcome } = recordOf(context, round);
  if (envelope === null) {
    throw nodeError('UPDATE_ENDED', `the update of round ${round} is ${outcome} already`, {
      job: context.job,
      round,
    });
  }
  const { receipt } = await ask(deps, coordinator, 'submit', { update: envelope }, signal);
  return openReceipt(context, receipt);
}

function recordOf({ deps, job }: PhaseContext, round: number): UpdateRecord {
  const record = deps.store.update(job, round);
  if (record) return record;
  throw nodeError('UPDATE_UNKNOWN', `this node's store has no update of round ${round}`, { job, round });
}

/** @throws SwarmError RECEIPT_MISMATCH when it is not for this node or not from its coordinator, and as `open` */
export function openReceipt({ coordinator, job, deps }: PhaseContext, bytes: Uint8Array): Receipt {
  const { author, message } = verifyMessage('receipt', bytes);
  const { peerId } = deps.network.signer;
  if (author === coordinator && message.job === job && message.peer === peerId) return message;
  throw nodeError('RECEIPT_MISMATCH', `a receipt for ${message.peer}, signed by ${author}`, {
    author,
    job: message.job,
    peer: message.peer,
  });
}

/**
 * Asks for a head that is newer than the known one; null when there is none.
 * @param options.again whether to join again too: a coordinator that was away may have forgotten who is here
 */
export async function askHead(
  context: PhaseContext,
  { known, again }: { known: Head | null; again: boolean },
  signal: AbortSignal,
): Promise<Head | null> {
  const { options, deps, coordinator, job } = context;
  const than = known ? { known: { term: known.term, sequence: known.sequence } } : {};
  const { head } = again
    ? await rejoin(options, deps, context, signal)
    : await ask(deps, coordinator, 'head', { job, ...than }, signal);
  return head && openHead(head, { coordinator, job });
}
