import type { SweepJobView, SweepView } from '../../protocol/api/sweeps.ts';
import type { Coordinator } from '../coordinator.ts';
import { sweepJobState } from '../jobs/sweep-job-state.ts';
import { unmeasuredError } from '../jobs/sweeps.ts';
import type { Store } from '../store/store.ts';

/** Returns all sweeps, oldest first. */
export function sweepViews({ coordinator, store }: { coordinator: Coordinator; store: Store }): SweepView[] {
  return store.sweeps.all().map(({ name, rounds, halvings, failed }) => {
    const nextRounds = rounds * 2 ** halvings;
    const entries = store.sweeps.entries(name);
    const isOpen = !failed && entries.filter(({ outAt }) => outAt === null).length > 1;
    const jobs = entries.map(({ job, variant, outAt, loss }): SweepJobView => {
      const run = coordinator.find(job);
      const { context, driver, record } = run;
      const { heldOutLoss } = record.checkpoint.checkpoint.metrics;
      const inSweep = isOpen && outAt === null ? sweepJobState(run, nextRounds, store) : null;
      return {
        job,
        name: context.stored.name,
        variant,
        phase: driver.state.phase,
        rounds: context.settings.newest.count,
        checkpoints: driver.state.committed,
        heldOutLoss: halvings === 0 ? heldOutLoss : loss,
        lossAfter:
          halvings === 0
            ? driver.state.committed
            : Math.min(driver.state.committed, rounds * 2 ** ((outAt ?? halvings) - 1)),
        outAt,
        pauseReason: inSweep?.state === 'paused' ? inSweep.reason : null,
      };
    });
    const winner = isOpen || failed ? null : jobs.find(({ outAt }) => outAt === null)!.name;
    return { name, nextRounds, winner, error: failed ? unmeasuredError(name).toJSON() : null, jobs };
  });
}
