import type { Coordinator } from '../coordinator.ts';
import type { Store } from '../store/store.ts';

/** A sweep: jobs of which the half with the higher held-out losses is stopped, again and again, until one is left. */
export interface SweepView {
  name: string;
  /** Number of checkpoints after which the next half of the jobs is stopped. */
  nextRounds: number;
  /** Name of the job that won; null while more than one job is left. */
  winner: string | null;
  jobs: SweepJobView[];
}

/** A job of a sweep. */
export interface SweepJobView {
  job: string;
  name: string;
  /** The settings in which the job differs from the others. */
  variant: string;
  phase: string;
  /** Number of checkpoints of the job. */
  checkpoints: number;
  /** Held-out loss at the newest halving, or of the newest checkpoint before the first halving; null if unknown. */
  heldOutLoss: number | null;
  /** Number of the halving that stopped the job; null if no halving has stopped it. */
  outAt: number | null;
}

/** Returns all sweeps, oldest first. */
export function sweepViews({ coordinator, store }: { coordinator: Coordinator; store: Store }): SweepView[] {
  return store.sweeps.all().map(({ name, rounds, halvings }) => {
    const jobs = store.sweeps.entries(name).map(({ job, variant, outAt, loss }): SweepJobView => {
      const { context, driver, record } = coordinator.find(job);
      const { heldOutLoss } = record.checkpoint.checkpoint.metrics;
      return {
        job,
        name: context.stored.name,
        variant,
        phase: driver.state.phase,
        checkpoints: driver.state.committed,
        heldOutLoss: halvings === 0 ? heldOutLoss : loss,
        outAt,
      };
    });
    const racing = jobs.filter(({ outAt }) => outAt === null);
    const winner = racing.length === 1 ? racing[0]!.name : null;
    return { name, nextRounds: rounds * 2 ** halvings, winner, jobs };
  });
}
