import type { SwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { Coordinator } from '../coordinator.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { isEnding, isOver } from '../round/job-phase.ts';
import type { Store, StoredSweep } from '../store/store.ts';
import { type SweepJobState, sweepJobState } from './sweep-job-state.ts';

/** A sweep, as its operator starts it. */
export interface NewSweep {
  readonly name: string;
  readonly rounds: number;
  /** The jobs by name or digest, each with the settings in which it differs from the other jobs. */
  readonly jobs: readonly { readonly job: string; readonly variant: string }[];
}

export interface SweepsDeps {
  readonly coordinator: Pick<Coordinator, 'jobs' | 'find'>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Events after which a sweep may have something to decide. */
const OCCASIONS: readonly JobEvent['type'][] = [
  'checkpoint',
  'rolled-back',
  'finished',
  'paused',
  'caught-up',
];

/**
 * Runs sweeps by successive halving (Jamieson and Talwalkar, arXiv 1502.07943). When all jobs of a sweep have enough
 * checkpoints, the coordinator stops the half of the jobs with the higher held-out losses, and the required number of
 * checkpoints doubles. This is repeated until one job is left. Each halving is recorded before jobs are stopped, so the
 * sweep continues after a restart.
 *
 * A paused job delays the sweep until its operator resumes or stops the job. The sweep also waits while a remaining job
 * catches up after the restore of an old backup. A stopped job leaves the sweep at the next halving. If no remaining
 * job has a held-out loss at a halving, the sweep fails and has no winner.
 */
export class Sweeps {
  readonly #deps: SweepsDeps;
  /**
   * The paused jobs for which each sweep waited at the newest check, as JSON. The log names these jobs only when they
   * change.
   */
  readonly #told = new Map<string, string>();
  #isStopped = false;

  constructor(deps: SweepsDeps) {
    this.#deps = deps;
  }

  /** Continues all sweeps. */
  start(): void {
    for (const sweep of this.#deps.store.sweeps.all()) this.#advance(sweep);
  }

  /** Ends the work of all sweeps. After this call, sweeps stop no further jobs. */
  stop(): void {
    this.#isStopped = true;
  }

  observe({ type, job }: JobEvent): void {
    if (!OCCASIONS.includes(type)) return;
    // Decide in the next turn of the event loop, because listeners are called before the transition of the job that
    // caused the event has ended.
    setImmediate(() => {
      const { sweeps } = this.#deps.store;
      if (this.#isStopped) return;
      for (const sweep of sweeps.all()) {
        if (sweeps.entries(sweep.name).some((entry) => entry.job === job)) this.#advance(sweep);
      }
    });
  }

  /**
   * Records and starts a sweep. Starting the same sweep again changes nothing.
   * @throws SwarmError SWEEP_INVALID, JOB_UNKNOWN, JOB_AMBIGUOUS
   */
  create({ name, rounds, jobs }: NewSweep): void {
    const { coordinator, store, clock } = this.#deps;
    const runs = jobs.map(({ job }) => coordinator.find(job));
    const entries = runs.map(({ context }, i) => ({ job: context.job, variant: jobs[i]!.variant }));
    const known = store.sweeps.all().find((sweep) => sweep.name === name);
    if (known !== undefined) {
      const before = store.sweeps.entries(name).map(({ job }) => job);
      if (known.rounds === rounds && before.join() === entries.map(({ job }) => job).join()) return;
      throw coordinatorError('SWEEP_INVALID', `there is another sweep with the name ${name}`, { name });
    }
    if (new Set(entries.map(({ job }) => job)).size < Math.max(2, entries.length)) {
      throw coordinatorError('SWEEP_INVALID', 'a sweep needs at least two different jobs', { name });
    }
    if (new Set(runs.map(({ context }) => context.manifest.data.heldOut.digest)).size > 1) {
      const message = 'the jobs of a sweep have different held-out rows, so their losses cannot be compared';
      throw coordinatorError('SWEEP_INVALID', message, { name });
    }
    store.transaction(() => store.sweeps.add({ name, rounds, createdAt: clock.now() }, entries));
    this.start();
  }

  /** Stops the jobs that have lost, and halves the sweep as often as the checkpoints of its jobs allow. */
  #advance(sweep: StoredSweep): void {
    if (sweep.failed) return;
    for (let { halvings } = sweep; ; halvings++) {
      const entries = this.#deps.store.sweeps.entries(sweep.name);
      for (const { job, outAt } of entries) if (outAt !== null) this.#stopJob(sweep.name, job);
      const remaining = entries.filter(({ outAt }) => outAt === null).map(({ job }) => job);
      // A job that catches up cannot record an event, and its newest checkpoints may be missing. The event `caught-up`
      // ends the wait.
      if (remaining.some((job) => isCatchingUp(this.#run(job)))) return;
      if (remaining.length < 2 || !this.#halve({ ...sweep, halvings }, remaining)) return;
    }
  }

  /** Stops the worse half of the remaining jobs. Returns false if the sweep waits for a job, or if it has failed. */
  #halve({ name, rounds, halvings }: StoredSweep, remaining: readonly string[]): boolean {
    const { store, log } = this.#deps;
    const target = rounds * 2 ** halvings;
    const states = remaining.map((job) => ({ job, ...sweepJobState(this.#run(job), target, store) }));
    this.#tellPauses(name, states);
    if (states.some(({ state }) => state === 'paused' || state === 'training')) return false;
    const measured = states.flatMap((one) => (one.state === 'measured' ? [one] : []));
    if (measured.length === 0) {
      this.#fail(name, remaining);
      return false;
    }
    measured.sort((a, b) => a.loss - b.loss);
    const kept = measured.slice(0, Math.ceil(states.length / 2)).map(({ job }) => job);
    const judged = states.map((one) => ({
      job: one.job,
      loss: one.state === 'measured' ? one.loss : null,
      isOut: !kept.includes(one.job),
    }));
    store.transaction(() => store.sweeps.halve({ name, halvings }, judged));
    log.info({ sweep: name, halvings: halvings + 1, judged }, 'sweep-halved');
    if (kept.length === 1) this.#announce(name, measured[0]!);
    return true;
  }

  /** Logs once for which paused jobs a sweep waits, and why they are paused. */
  #tellPauses(sweep: string, states: readonly (SweepJobState & { job: string })[]): void {
    const paused = states.flatMap((one) =>
      one.state === 'paused' ? [{ job: this.#run(one.job).context.stored.name, reason: one.reason }] : [],
    );
    const told = JSON.stringify(paused);
    if (paused.length > 0 && this.#told.get(sweep) !== told)
      this.#deps.log.warn({ sweep, paused }, 'sweep-waits');
    this.#told.set(sweep, told);
  }

  /** Ends a sweep without a winner, because none of its remaining jobs has a held-out loss. */
  #fail(sweep: string, remaining: readonly string[]): void {
    const { store, log } = this.#deps;
    store.transaction(() => store.sweeps.fail(sweep));
    log.warn({ sweep, error: unmeasuredError(sweep) }, 'sweep-failed');
    const { message: reason } = unmeasuredError(sweep);
    for (const job of remaining) {
      this.#run(job).driver.transact((outbox) => outbox.event({ type: 'sweep-failed', sweep, reason }));
    }
  }

  #announce(sweep: string, { job, loss }: { job: string; loss: number }): void {
    const run = this.#run(job);
    run.driver.transact((outbox) => outbox.event({ type: 'sweep-won', sweep, heldOutLoss: loss }));
  }

  #stopJob(sweep: string, job: string): void {
    const run = this.#run(job);
    const { state, isHeld } = run.driver;
    // A held job waits for its nodes after a restart. A stop would end this wait, so the sweep stops the job later,
    // after its next checkpoint. A job that catches up is stopped after it has caught up.
    if (isOver(state) || isEnding(state) || isHeld || isCatchingUp(run)) return;
    run.operate({ type: 'stop', reason: `other jobs of the sweep ${sweep} have lower losses` });
  }

  #run(job: string): JobRun {
    return this.#deps.coordinator.jobs().find(({ context }) => context.job === job)!;
  }
}

/** Returns whether a job is being started again, or lacks a later head that a node has shown. */
function isCatchingUp({ context }: JobRun): boolean {
  return context.signal.aborted || context.isBehind();
}

/** Returns the error of a sweep in which no job could be measured. */
export function unmeasuredError(sweep: string): SwarmError {
  return coordinatorError(
    'SWEEP_UNMEASURED',
    `the sweep ${sweep} has no winner, because none of its remaining jobs has a held-out loss`,
    { name: sweep },
  );
}
