import type { JobEvent } from '../../index.ts';

/** Collects the figures of the demo's summary from a job's events. */
export class Tally {
  readonly peers = new Set<string>();
  rounds = 0;
  #updates = 0;
  #bytes = 0;

  add(event: JobEvent): void {
    if (event.type === 'update' && event.code === 'accepted') {
      this.peers.add(event.peer);
      this.#updates++;
      this.#bytes += event.bytes;
    } else if ((event.type === 'checkpoint' && event.round > 0) || event.type === 'rolled-back') {
      this.rounds++;
    }
  }

  /** Mean size of one node's update of one round, in bytes per adapter parameter. */
  bytesPerParameterPerRound(parameters: number): number {
    return this.#updates === 0 ? 0 : this.#bytes / this.#updates / parameters;
  }
}
