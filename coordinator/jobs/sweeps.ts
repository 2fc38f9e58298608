import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/logger.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import type { Coordinator } from '../coordinator.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import { isEnding, isOver, needsOperator } from '../round/round-machine.ts';
import type { Store, StoredSweep } from '../store/store.ts';

/** A sweep, as its operator starts it. */
export interface NewSweep {
  readonly name: string;
  readonly rounds: number;
  /** The jobs, by name or digest, and the settings in which each differs. */
  readonly jobs: readonly { readonly job: string; readonly variant: string }[];
}

export interface SweepsDeps {
  readonly coordinator: Pick<Coordinator, 'jobs' | 'find'>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Events after which a sweep may have something to decide. */
const OCCASIONS: readonly JobEvent['type'][] = ['checkpoint', 'rolled-back', 'finished', 'paused'];

/**
 * Runs sweeps by successive halving (Jamieson and Talwalkar, arXiv 1502.07943). When all jobs of a sweep have enough
 * checkpoints, the half with the higher held-out losses is stopped. The required number of checkpoints then doubles.
 * This is repeated until one job is left. Each halving is recorded before jobs are stopped, so the sweep continues after
 * a restart.
 */
export class Sweeps {
  readonly #deps: SweepsDeps;
  #isStopped = false;

  constructor(deps: SweepsDeps) {
    this.#deps = deps;
  }

  /** Continues all sweeps. */
  start(): void {
    for (const sweep of this.#deps.store.sweeps.all()) this.#advance(sweep);
  }

  /** After this call, no sweep stops a job any more. */
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
    const { store, log } = this.#deps;
    for (let { halvings } = sweep; ; halvings++) {
      const entries = store.sweeps.entries(sweep.name);
      for (const { job, outAt } of entries) if (outAt !== null) this.#stopJob(sweep.name, job);
      const racing = entries.filter(({ outAt }) => outAt === null);
      const target = sweep.rounds * 2 ** halvings;
      const standings = racing.map(({ job }) => ({ job, ...this.#standing(job, target) }));
      if (racing.length < 2 || !standings.every(({ isReady }) => isReady)) return;
      standings.sort((a, b) => (a.loss ?? Infinity) - (b.loss ?? Infinity));
      const kept = Math.ceil(standings.length / 2);
      const judged = standings.map(({ job, loss }, place) => ({ job, loss, isOut: place >= kept }));
      store.transaction(() => store.sweeps.halve({ name: sweep.name, halvings }, judged));
      log.info({ sweep: sweep.name, halvings: halvings + 1, judged }, 'sweep-halved');
      if (kept === 1) this.#announce(sweep.name, judged[0]!);
    }
  }

  /**
   * Returns whether a job can be judged, and its held-out loss after `target` checkpoints. If the job finished with
   * fewer checkpoints, the loss of its last checkpoint is used. The loss is null if the job has stopped early or needs
   * its operator.
   */
  #standing(job: string, target: number): { isReady: boolean; loss: number | null } {
    const { store } = this.#deps;
    const run = this.#run(job);
    const { state } = run.driver;
    const trained = store.rounds.checkpoints(job).slice(1);
    const reached = trained[target - 1];
    if (reached !== undefined) return { isReady: true, loss: reached.heldOutLoss };
    const isComplete = isOver(state) && state.committed >= state.settings.count;
    if (isComplete) return { isReady: true, loss: trained.at(-1)?.heldOutLoss ?? null };
    return { isReady: isOver(state) || needsOperator(state), loss: null };
  }

  #announce(sweep: string, { job, loss }: { job: string; loss: number | null }): void {
    const run = this.#run(job);
    run.driver.transact((outbox) => outbox.event({ type: 'sweep-won', sweep, heldOutLoss: loss }));
  }

  #stopJob(sweep: string, job: string): void {
    const run = this.#run(job);
    const { state } = run.driver;
    if (isOver(state) || isEnding(state)) return;
    run.operate({ type: 'stop', reason: `other jobs of the sweep ${sweep} have lower losses` });
  }

  #run(job: string): JobRun {
    return this.#deps.coordinator.jobs().find(({ context }) => context.job === job)!;
  }
}
