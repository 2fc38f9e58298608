import { RateLimiter } from '../../common/limits/rate-limiter.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { RunContext } from '../context.ts';
import { signedRemovals } from './lost-removals.ts';

/**
 * Age in milliseconds after which a record is signed again, even if its number is still the same. A ban of a peer that
 * is not a member is part of the record, but does not raise its number.
 */
const MAX_AGE_MS = 60_000;
/** Each member gets a record with the same number at most once a minute, because a record has up to 128 KiB. */
const ANSWERS = { calls: 1, perMs: 60_000 };

interface SignedRecord {
  readonly number: number;
  readonly signedAt: number;
  readonly envelope: Uint8Array | null;
}

/**
 * Gives the signed records of removals to members. Keeps the signed records in memory, because signing one
 * takes up to 6 ms.
 */
export class RemovalRecords {
  readonly #clock: Clock;
  readonly #limiter: RateLimiter;
  /** The newest record of each job. */
  readonly #records = new Map<string, SignedRecord>();

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
    this.#limiter = new RateLimiter(deps);
  }

  /** Returns the record of a job for a member; null if the job has none, or if the member got this record just now. */
  answer(context: RunContext, peer: string): Uint8Array | null {
    const { job, keys } = context;
    const number = keys.removals;
    if (number === 0 || !this.#limiter.take(`${job} ${peer} ${number}`, ANSWERS)) return null;
    const now = this.#clock.monotonic();
    const known = this.#records.get(job);
    if (known?.number === number && now - known.signedAt < MAX_AGE_MS) return known.envelope;
    const envelope = signedRemovals(context);
    this.#records.set(job, { number, signedAt: now, envelope });
    return envelope;
  }
}
