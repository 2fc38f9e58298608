import type { Clock } from '../../common/time/clock.ts';

/**
 * Time without a sign of life after which a process counts as ended. A node that receives no head asks for one every
 * 10 s, so a living process is heard three times in this time.
 */
const SILENT_MS = 30_000;
/**
 * Time without a sign of life after which another process of the identity may join: two heartbeat intervals of 2 s, and
 * a margin of 1 s. A node that was killed and started again waits for this time. Without the wait, both processes would
 * train the same round and sign different updates, which is proof of a misdeed and leads to a ban.
 */
const HANDOVER_MS = 5_000;
/**
 * Minimum time, in milliseconds, between two signs of life of the earlier process after the later process has begun.
 * Two such signs prove that both processes run. After a restart, delayed messages of the ended process can still
 * arrive, but they arrive within less time.
 */
const PROOF_MS = 5_000;
/**
 * Maximum number of later processes of one identity that are remembered. The process heard least recently is forgotten
 * first.
 */
const LATER_RUNS = 4;
/** Maximum number of identities that are remembered: as many as a job can have members. */
const IDENTITIES = 4096;

interface Run {
  readonly id: string;
  /** Time of the first sign of life, in milliseconds since the Unix epoch. */
  readonly since: number;
  /** Time of the newest sign of life, on the monotonic clock. */
  seenAt: number;
  /** Sending time of the newest heartbeat, so that a replayed heartbeat does not count as a sign of life. */
  issuedAt: number;
}

interface LaterRun extends Run {
  /**
   * Time at which the earlier process was first heard after this process began, on the monotonic clock; null
   * if the earlier process has not been heard since.
   */
  earlierAt: number | null;
  /** Whether the signs of life prove that the earlier process and this process run at the same time. */
  isProven: boolean;
}

interface Runs {
  earliest: Run;
  readonly later: Map<string, LaterRun>;
  /** Start of the newest later process that the earliest process has not been told about; null if there is none. */
  untold: number | null;
}

/** A sign of life of a process of a node. */
export interface SignOfLife {
  readonly peer: string;
  /** Random id of the process. */
  readonly run: string;
  /** Sending time of a heartbeat. A request has none, because it cannot be replayed. */
  readonly issuedAt?: number;
}

/**
 * Finds identities that two processes use at the same time, for example on two machines with a copied home. Each
 * process has a random id. If an earlier process still sends messages repeatedly after a later process has begun, both
 * run. After a restart, only the later process is heard.
 */
export class IdentityRuns {
  readonly #clock: Clock;
  readonly #peers = new Map<string, Runs>();

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /**
   * Notes a sign of life. Returns `later` if another process of the identity began before this one and still runs.
   * Returns `proven` if this sign of life of the earliest process proves that a later process runs at the same time;
   * this happens once for each later process.
   */
  note({ peer, run, issuedAt = 0 }: SignOfLife): 'alone' | 'proven' | 'later' {
    const now = this.#clock.monotonic();
    const runs = this.#peers.get(peer);
    // Old heartbeats can be replayed after a restart of this coordinator. So only a request shows that a process runs, and
    // the heartbeats of this process count from then on.
    const isRequest = issuedAt === 0;
    const known = runs?.earliest.id === run ? runs.earliest : runs?.later.get(run);
    if (!isRequest && known === undefined) return 'alone';
    const fresh = { id: run, since: this.#clock.now(), seenAt: now, issuedAt };
    if (runs === undefined) {
      if (this.#peers.size >= IDENTITIES) this.#peers.delete(this.#peers.keys().next().value!);
      this.#peers.set(peer, { earliest: fresh, later: new Map(), untold: null });
      return 'alone';
    }
    if (known !== undefined) {
      if (!isRequest && issuedAt <= known.issuedAt) return this.#verdict(runs, run);
      known.issuedAt = Math.max(known.issuedAt, issuedAt);
      known.seenAt = now;
    }
    for (const [id, { seenAt }] of runs.later) if (now - seenAt > SILENT_MS) runs.later.delete(id);
    if (runs.earliest.id === run) return this.#prove(runs, now) ? 'proven' : 'alone';
    runs.later.delete(run);
    const later = (known as LaterRun | undefined) ?? { ...fresh, earlierAt: null, isProven: false };
    if (now - runs.earliest.seenAt > SILENT_MS) {
      if (isRequest) this.#handOver(runs, later);
      else runs.later.set(run, later);
      return 'alone';
    }
    if (runs.later.size >= LATER_RUNS) runs.later.delete(runs.later.keys().next().value!);
    runs.later.set(run, later);
    return this.#verdict(runs, run);
  }

  /**
   * Notes a request of a process to join. Returns `later` if an earlier process of the identity still runs. Returns
   * `wait` if an earlier process was heard in the last HANDOVER_MS, because that process may still run. Otherwise
   * returns `admitted`.
   */
  join(sign: SignOfLife): 'admitted' | 'wait' | 'later' {
    if (this.note(sign) === 'later') return 'later';
    const runs = this.#peers.get(sign.peer)!;
    if (runs.earliest.id === sign.run) return 'admitted';
    if (this.#clock.monotonic() - runs.earliest.seenAt < HANDOVER_MS) return 'wait';
    this.#handOver(runs, runs.later.get(sign.run)!);
    return 'admitted';
  }

  /**
   * Notes that a process leaves the job. Returns false if another process of the identity continues.
   * @param run random id of the process; undefined if it sent none
   */
  end(peer: string, run: string | undefined): boolean {
    const runs = this.#peers.get(peer);
    if (runs === undefined || run === undefined) return true;
    if (runs.earliest.id === run) this.#peers.delete(peer);
    else runs.later.delete(run);
    return runs.earliest.id === run;
  }

  #handOver(runs: Runs, next: LaterRun): void {
    runs.later.delete(next.id);
    runs.earliest = next;
    runs.untold = null;
  }

  /**
   * Takes the notice about the newest later process, which the coordinator must pass on to the earliest process.
   * Returns the start of the later process in ms since the epoch. Returns null if there is no later process, if the
   * notice was taken before, or if `run` is not the earliest process.
   */
  takeNotice({ peer, run }: SignOfLife): number | null {
    const runs = this.#peers.get(peer);
    if (runs === undefined || runs.earliest.id !== run) return null;
    const { untold } = runs;
    runs.untold = null;
    return untold;
  }

  /** Returns the start of the first later process that still runs, in ms since the epoch; null if there is none. */
  duplicateSince(peer: string): number | null {
    const oldest = this.#clock.monotonic() - SILENT_MS;
    for (const { isProven, seenAt, since } of this.#peers.get(peer)?.later.values() ?? []) {
      if (isProven && seenAt >= oldest) return since;
    }
    return null;
  }

  /** Returns the start of the earliest process of an identity in ms since the epoch; null if it is unknown. */
  earliestSince(peer: string): number | null {
    return this.#peers.get(peer)?.earliest.since ?? null;
  }

  #verdict({ later }: Runs, run: string): 'alone' | 'later' {
    return later.get(run)?.isProven ? 'later' : 'alone';
  }

  /** Returns whether this sign of life of the earliest process proves that a later process runs at the same time. */
  #prove(runs: Runs, now: number): boolean {
    let isNews = false;
    for (const later of runs.later.values()) {
      later.earlierAt ??= now;
      const alternates = later.seenAt > later.earlierAt && now - later.earlierAt >= PROOF_MS;
      if (later.isProven || !alternates) continue;
      later.isProven = true;
      runs.untold = later.since;
      isNews = true;
    }
    return isNews;
  }
}
