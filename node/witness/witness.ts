import { join } from 'node:path';
import { messageOf } from '../../common/errors.ts';
import { Permits } from '../../common/limits/permits.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import type { VerifyRequest } from '../../verify/process/messages.ts';
import type { VerifyReport } from '../../verify/verify-job.ts';
import type { SwarmNodeView } from '../jobs/swarm-node-view.ts';
import type { Pauses } from '../limits/pauses.ts';
import { JobWitness, type JobWitnessDeps } from './job-witness.ts';
import { WitnessSpace } from './witness-space.ts';

/** Interval in milliseconds at which the witness looks for new checkpoints. Most rounds take longer. */
const LOOK_MS = 2_000;
/** Folder of the home in which a witness keeps its files. */
export const WITNESS_FOLDER = 'witness';
/**
 * Maximum time of one verification, in milliseconds. The largest merges take minutes. Verifications of other jobs wait
 * until this one ends.
 */
const VERIFY_MS = 30 * 60_000;

export interface WitnessDeps extends Omit<JobWitnessDeps, 'space'> {
  /** Returns the disk space in bytes that the verifications of all jobs together may use. */
  readonly spareBytes: () => Promise<number>;
  /** Returns the state of each job of the node. */
  readonly jobs: () => readonly Pick<SwarmNodeView, 'context' | 'state'>[];
  readonly pauses: Pick<Pauses, 'isBlocked' | 'current' | 'onChange'>;
}

/**
 * Verifies each new checkpoint of the node's jobs while the node works. The jobs do not wait for each other, except that
 * one verification runs at a time. Reports a problem only to the owner of the node: in the log, on the screen, and in a
 * bundle that proves the problem. The requests to the coordinator do not depend on the result.
 */
export class Witness {
  readonly #folder: string;
  readonly #deps: WitnessDeps & JobWitnessDeps;
  readonly #jobs = new Map<string, JobWitness>();
  readonly #turns = new Permits(1);
  readonly #life = new AbortController();
  /** Aborted when the node pauses. */
  #work = new AbortController();
  #cancel = (): void => {};
  readonly #unsubscribe: () => void;

  constructor({ home }: { home: string }, deps: WitnessDeps) {
    this.#folder = join(home, WITNESS_FOLDER);
    const { pauses, verify, spareBytes } = deps;
    this.#deps = {
      ...deps,
      space: new WitnessSpace(spareBytes),
      verify: (request, signal) => this.#verifyInTurn(request, signal, verify),
    };
    this.#unsubscribe = pauses.onChange(() => {
      if (pauses.current !== null) this.#work.abort();
    });
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(LOOK_MS, () => {
      void this.look();
      this.start();
    });
  }

  /**
   * Begins to verify the checkpoints that the node has learnt of since the last call. Does nothing while the node is
   * paused or stops.
   * @returns a promise that resolves when the checkpoints of all jobs are verified. It never rejects
   */
  async look(): Promise<void> {
    const { jobs, pauses, log } = this.#deps;
    if (pauses.isBlocked || this.#life.signal.aborted) return;
    if (this.#work.signal.aborted) this.#work = new AbortController();
    const signal = AbortSignal.any([this.#life.signal, this.#work.signal]);
    const current = jobs();
    for (const [job, witness] of this.#jobs) {
      if (current.some(({ context }) => context?.job === job)) continue;
      // Keep the witness in the map until its files are deleted. If the node joins the job again meanwhile, a
      // second witness must not write to the same folder.
      void witness
        .end()
        .catch((error: unknown) => log.warn({ job, reason: messageOf(error) }, 'witness-failed'))
        .finally(() => this.#jobs.delete(job));
    }
    const looks = current.flatMap(({ context, state }) => {
      if (context === null || state.head === null) return [];
      const { job, coordinator, options } = context;
      const facts = { job, coordinator, invite: options.invite, folder: this.#folder };
      const witness = this.#jobs.get(job) ?? new JobWitness(facts, this.#deps);
      this.#jobs.set(job, witness);
      return witness.follow(state.head.checkpoint, signal);
    });
    await Promise.all(looks);
  }

  /** Stops the verification in progress. */
  async stop(): Promise<void> {
    this.#life.abort();
    this.#cancel();
    this.#unsubscribe();
    await Promise.all([...this.#jobs.values()].map((witness) => witness.end()));
  }

  async #verifyInTurn(
    request: VerifyRequest,
    signal: AbortSignal,
    verify: JobWitnessDeps['verify'],
  ): Promise<VerifyReport> {
    const release = await this.#turns.take('', signal);
    try {
      const { clock } = this.#deps;
      const what = `the verification of round ${request.from}`;
      return await withDeadline({ clock, ms: VERIFY_MS, signal, what }, (inner) => verify(request, inner));
    } finally {
      release();
    }
  }
}
