import { jobTopic } from '../../protocol/job/topics.ts';
import { DETAIL_CHARACTERS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import type { Assignment, Preset } from '../round/plan.ts';

/** Fields of a head that the job and its newest checkpoint do not determine. */
export interface HeadFields {
  readonly phase: Head['phase'];
  readonly round: number;
  readonly preset: Preset;
  readonly assignments: readonly Assignment[];
  readonly deadlineMs: number;
  readonly reason: string;
  readonly issuedAt: number;
}

/** The newest head of a job. A head is recorded before it is published, and its bytes never change afterwards. */
export class Heads {
  readonly #context: RunContext;
  #newest: { envelope: Uint8Array; head: Head };
  #hasRecorded = false;

  constructor(deps: { context: RunContext }) {
    this.#context = deps.context;
    const { job } = this.#context;
    const envelope = this.#context.deps.store.jobs.head(job)!;
    this.#newest = { envelope, head: verifyMessage('head', envelope).message };
  }

  get hasRecorded(): boolean {
    return this.#hasRecorded;
  }

  /** The newest head and its signed form. */
  get newest(): { readonly envelope: Uint8Array; readonly head: Head } {
    return this.#newest;
  }

  /** Signs and records the next head. The caller must be in a transaction. */
  record(fields: HeadFields, current: CurrentCheckpoint): void {
    const { job, stored, settings, deps } = this.#context;
    const sequence = this.#newest.head.sequence + 1;
    const id = { job, term: stored.term, sequence };
    const head = { ...makeHead(id, fields, current), ...settings.headFields(fields.round) };
    const envelope = signMessage('head', head, deps.network.signer);
    deps.store.jobs.putHead(job, sequence, envelope);
    this.#newest = { envelope, head };
    this.#hasRecorded = true;
  }

  /** Publishes the newest head, encrypted under the job's key. */
  publish(): void {
    const { job, keys, deps } = this.#context;
    deps.network
      .publish(jobTopic(job, 'heads'), keys.encrypt(this.#newest.envelope))
      .catch((error: unknown) => deps.log.warn({ error }, 'head-not-published'));
  }
}

export function makeHead(
  id: { job: string; term: number; sequence: number },
  fields: HeadFields,
  { digest, checkpoint, ordinal }: CurrentCheckpoint,
): Head {
  const { parent, delta } = checkpoint;
  return {
    ...id,
    phase: fields.phase,
    round: fields.round,
    checkpoint: {
      digest,
      round: checkpoint.round,
      ordinal,
      adapter: checkpoint.adapter,
      delta: delta && parent ? { parent, digest: delta.digest, size: delta.size } : null,
      heldOutLoss: checkpoint.metrics.heldOutLoss,
    },
    preset: fields.preset,
    assignments: [...fields.assignments],
    deadlineMs: Math.ceil(fields.deadlineMs),
    included: checkpoint.contributors.map(({ peer, update }) => ({ peer, update })),
    reason: clip(fields.reason),
    issuedAt: fields.issuedAt,
  };
}

/** Shortens a reason or a detail to the number of characters that the wire format allows. */
export function clip(text: string): string {
  return text.length <= DETAIL_CHARACTERS ? text : `${text.slice(0, DETAIL_CHARACTERS - 1)}…`;
}
