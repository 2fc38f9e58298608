import { nodeError } from '../errors.ts';

/**
 * Divides the spare disk space of a node among the jobs of its witness, which fetch blobs at the same time.
 */
export class WitnessSpace {
  /** Bytes that each job has reserved, by the digest of the job. */
  readonly #reserved = new Map<string, number>();
  readonly #spareBytes: () => Promise<number>;

  /** @param spareBytes returns the disk space in bytes that is free for the verifications of all jobs together */
  constructor(spareBytes: () => Promise<number>) {
    this.#spareBytes = spareBytes;
  }

  /**
   * Reserves `needed` bytes for a job. An earlier reservation of the same job ends.
   * @throws SwarmError WITNESS_DISK if the other jobs leave less space
   */
  async reserve(job: string, { needed, round }: { needed: number; round: number }): Promise<void> {
    const spare = await this.#spareBytes();
    const others = [...this.#reserved].filter(([other]) => other !== job);
    const left = spare - others.reduce((sum, [, bytes]) => sum + bytes, 0);
    if (needed > left) {
      // The job deletes its files after this error. Its reservation ends at once, because otherwise two
      // jobs that grow at the same time could both fail.
      this.release(job);
      const text = `the verification of round ${round} needs more disk space than the ${left} bytes that are left of --max-disk`;
      throw nodeError('WITNESS_DISK', text, { round, needed, spare: left });
    }
    this.#reserved.set(job, needed);
  }

  release(job: string): void {
    this.#reserved.delete(job);
  }
}
