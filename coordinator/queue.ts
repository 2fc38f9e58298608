/** The order of a coordinator's jobs, and the jobs that wait for other jobs. */
import type { JobRun } from './job-run.ts';
import { isOver, needsOperator } from './round/job-phase.ts';

/** Returns the jobs by priority, highest first. Of two jobs with the same priority, the older one comes first. */
export function byPriority(runs: readonly JobRun[]): JobRun[] {
  return [...runs].sort((a, b) => b.context.place.priority - a.context.place.priority);
}

/**
 * Opens every queued job that waited for a job which has ended. Jobs with a higher priority are opened first. Leaves out
 * jobs that are held or are being started again, so the caller must call this function again after the hold or start.
 */
export function openQueued(runs: readonly JobRun[]): void {
  for (const run of byPriority(runs)) {
    const other = awaitedBy(run, runs);
    const isReady = !run.driver.isHeld && !run.context.signal.aborted;
    if (isReady && other !== null && isOver(other.driver.state)) run.unqueue('ended');
  }
}

/** Returns the job that a queued job waits for; null if the job is not queued. */
export function awaitedBy({ context, driver }: JobRun, runs: readonly JobRun[]): JobRun | null {
  if (driver.state.phase !== 'queued') return null;
  return runs.find((other) => other.context.job === context.place.after) ?? null;
}

/**
 * Returns a text for people that says what a queued job waits for. If the awaited job is paused, the text also says
 * what the operator can do.
 * @param awaited the job that the queued job waits for
 */
export function queuedReason(awaited: JobRun): string {
  const { context, driver } = awaited;
  const { name } = context.stored;
  const { state } = driver;
  if (state.phase !== 'paused') return `it waits until job ${name} has ended`;
  if (state.pauseCause === 'disk-full')
    return `it waits until job ${name} has ended, and ${name} is paused until the disk has space`;
  const why = needsOperator(state) ? 'has a problem and is paused' : 'is paused';
  return `it waits until job ${name} has ended, but ${name} ${why}: resume or stop ${name}`;
}
