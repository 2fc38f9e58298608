import { isSwarmError } from '../../common/errors.ts';
import type { CoordinatorRecord, NodeJobStatus } from '../../protocol/api/node.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { request } from '../contact/requests.ts';
import type { NodeDeps } from '../jobs/context.ts';

/** Maximum time of the requests, in milliseconds. It is short, because the user of `lora-swarm doctor` waits. */
const MAX_MS = 5_000;

type Deps = Pick<NodeDeps, 'network' | 'clock' | 'store'>;

/**
 * Asks the coordinator of a job what its record says about this node's update of a round.
 * @returns null if the coordinator cannot be asked. Parts that it does not answer are null
 */
export async function coordinatorRecord(
  { job, round }: { job: string; round: number },
  jobs: readonly Pick<NodeJobStatus, 'coordinator' | 'job'>[],
  deps: Deps,
): Promise<CoordinatorRecord | null> {
  const contact = jobs.find((one) => one.job?.job === job)?.coordinator;
  if (!contact?.connected || contact.peer === null) return null;
  const coordinator = contact.peer;
  const signal = AbortSignal.timeout(MAX_MS);
  const own = deps.store.update(job, round);
  const [receipt, figures] = await Promise.all([
    own && askReceipt(coordinator, { job, update: own.update }, deps, signal),
    askFigures(coordinator, { job, round }, deps, signal),
  ]);
  return { receipt, figures };
}

async function askReceipt(
  coordinator: string,
  body: { job: string; update: string },
  deps: Deps,
  signal: AbortSignal,
): Promise<CoordinatorRecord['receipt']> {
  const envelope = await answered(signal, async () => {
    return (await request(deps, coordinator, 'receipt', body, signal)).receipt;
  });
  if (envelope === null) return null;
  const { author, message } = verifyMessage('receipt', envelope);
  if (author !== coordinator || message.update !== body.update) return null;
  const { code, detail, issuedAt } = message;
  return { code, detail, at: issuedAt };
}

/** Looks for the update in the figures of its round, and of the next round, whose merge takes late updates. */
async function askFigures(
  coordinator: string,
  { job, round }: { job: string; round: number },
  deps: Deps,
  signal: AbortSignal,
): Promise<CoordinatorRecord['figures']> {
  const self = deps.network.signer.peerId;
  for (const merge of [round, round + 1]) {
    const envelope = await answered(signal, async () => {
      return (await request(deps, coordinator, 'figures', { job, round: merge }, signal)).figures;
    });
    if (envelope === null) continue;
    const { author, message } = verifyMessage('figures', envelope);
    const own = message.updates.find((update) => update.peer === self && update.round === round);
    if (author !== coordinator || own === undefined) continue;
    const { score, share, belief, harmful, audit } = own;
    return {
      merge,
      effect: score?.effect ?? null,
      gain: score?.gain ?? null,
      ...{ share, belief, harmful },
      audit: audit === null ? null : audit.passed ? 'passed' : 'failed',
    };
  }
  return null;
}

/** Returns the answer to a request; null if it fails. */
async function answered<T>(signal: AbortSignal, ask: () => Promise<T | null>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    // The output says which parts the coordinator has not answered.
    if (!isSwarmError(error) && !signal.aborted) throw error;
    return null;
  }
}
