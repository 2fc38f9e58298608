import { DETAIL_CHARACTERS } from '../../protocol/limits.ts';
import type { Head } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import { jobTopic } from '../../protocol/topics.ts';
import type { CurrentCheckpoint, RunContext } from '../context.ts';
import type { Assignment, Preset } from '../round/plan.ts';

/** What changes from head to head; the rest follows from the job and its newest checkpoint. */
export interface HeadNews {
  readonly phase: Head['phase'];
  readonly round: number;
  readonly preset: Preset;
  readonly assignments: readonly Assignment[];
  readonly deadlineMs: number;
  readonly reason: string;
  readonly issuedAt: number;
}

/** The job's newest head: recorded before it is published, and then always the same bytes. */
export class Heads {
  readonly #context: RunContext;
  #signed: { envelope: Uint8Array; head: Head };

  /** @param options.envelope the newest recorded head */
  constructor(options: { envelope: Uint8Array }, deps: { context: RunContext }) {
    this.#context = deps.context;
    this.#signed = { envelope: options.envelope, head: verifyMessage('head', options.envelope).message };
  }

  get head(): Head {
    return this.#signed.head;
  }

  get envelope(): Uint8Array {
    return this.#signed.envelope;
  }

  /** Signs and records the next head; to be called within a transaction. */
  record(news: HeadNews, current: CurrentCheckpoint): void {
    const { job, stored, deps } = this.#context;
    const head = makeHead({ job, term: stored.term, sequence: this.head.sequence + 1 }, news, current);
    const envelope = signMessage('head', head, deps.network.signer);
    deps.store.jobs.putHead(job, head.sequence, envelope);
    this.#signed = { envelope, head };
  }

  publish(): void {
    const { job, deps } = this.#context;
    deps.network
      .publish(jobTopic(job, 'heads'), this.envelope)
      .catch((error: unknown) => deps.log.warn({ error }, 'head-not-published'));
  }
}

export function makeHead(
  moment: { job: string; term: number; sequence: number },
  news: HeadNews,
  { digest, checkpoint, ordinal }: CurrentCheckpoint,
): Head {
  const { parent, delta } = checkpoint;
  return {
    ...moment,
    phase: news.phase,
    round: news.round,
    checkpoint: {
      digest,
      round: checkpoint.round,
      ordinal,
      adapter: checkpoint.adapter,
      delta: delta && parent ? { parent, digest: delta.digest, size: delta.size } : null,
      heldOutLoss: checkpoint.metrics.heldOutLoss,
    },
    preset: news.preset,
    assignments: [...news.assignments],
    deadlineMs: Math.ceil(news.deadlineMs),
    included: checkpoint.contributors.map(({ peer, update }) => ({ peer, update })),
    reason: clip(news.reason),
    issuedAt: news.issuedAt,
  };
}

/** Characters that a reason or a detail may have on the wire. */
export function clip(text: string): string {
  return text.length <= DETAIL_CHARACTERS ? text : `${text.slice(0, DETAIL_CHARACTERS - 1)}…`;
}
