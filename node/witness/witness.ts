import { join } from 'node:path';
import type { SwarmNodeView } from '../status/swarm-node-view.ts';
import { JobWitness, type JobWitnessDeps } from './job-witness.ts';

/** Interval at which the witness looks for new checkpoints. Rounds take longer. */
const LOOK_MS = 2_000;
/** Folder of the home in which a witness keeps its files. */
export const WITNESS_FOLDER = 'witness';

export interface WitnessDeps extends JobWitnessDeps {
  /** Returns the state of each job of the node. */
  readonly jobs: () => readonly Pick<SwarmNodeView, 'context' | 'state'>[];
}

/**
 * Verifies each new checkpoint of the node's jobs while the node works. Reports a problem only to the owner of the node:
 * in the log, on the screen, and in a bundle that proves the problem. The requests to the coordinator do not depend on
 * the result.
 */
export class Witness {
  readonly #folder: string;
  readonly #deps: WitnessDeps;
  readonly #jobs = new Map<string, JobWitness>();
  readonly #life = new AbortController();
  #working: Promise<void> = Promise.resolve();
  #cancel = (): void => {};

  constructor({ home }: { home: string }, deps: WitnessDeps) {
    this.#folder = join(home, WITNESS_FOLDER);
    this.#deps = deps;
  }

  start(): void {
    this.#cancel = this.#deps.clock.after(LOOK_MS, () => {
      this.#working = this.look().finally(() => {
        if (!this.#life.signal.aborted) this.start();
      });
    });
  }

  /** Verifies the checkpoints that the node has learnt of since the last call, one job after the other. */
  async look(): Promise<void> {
    for (const { context, state } of this.#deps.jobs()) {
      if (context === null || state.head === null || this.#life.signal.aborted) continue;
      const { job, coordinator, options } = context;
      const known = this.#jobs.get(job);
      const facts = { job, coordinator, invite: options.invite, folder: this.#folder };
      const witness = known ?? new JobWitness(facts, this.#deps, this.#life.signal);
      this.#jobs.set(job, witness);
      await witness.follow(state.head.checkpoint);
    }
  }

  /** Stops the verification in progress. */
  async stop(): Promise<void> {
    this.#life.abort();
    this.#cancel();
    await this.#working;
  }
}
