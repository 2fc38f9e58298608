import type { HealthMark } from '../protocol/api/health.ts';

/** A job or peer that is not healthy, with the reason and what the operator can do. */
export interface Alert<P> extends HealthMark {
  readonly level: 'red' | 'yellow';
  /** Name of the job; empty for a peer that is a member of no job. */
  readonly job: string;
  /** The peer; null if the alert is about the job itself. */
  readonly peer: P | null;
}

/**
 * Returns the jobs and peers that are not healthy: jobs before peers, and red before yellow. Jobs come first, because
 * anyone can join an open job with many peers and let them disappear. These peers are red, and would hide the jobs.
 */
export function alertsOf<P extends { readonly jobName: string; readonly health: HealthMark }>(
  jobs: readonly { readonly name: string; readonly health: HealthMark }[],
  peers: readonly P[],
): Alert<P>[] {
  const groups: (HealthMark & Pick<Alert<P>, 'job' | 'peer'>)[][] = [
    jobs.map(({ name, health }) => ({ ...health, job: name, peer: null })),
    peers.map((peer) => ({ ...peer.health, job: peer.jobName, peer })),
  ];
  return groups.flatMap((group) =>
    (['red', 'yellow'] as const).flatMap((level) =>
      group.filter((one) => one.level === level).map((one) => ({ ...one, level })),
    ),
  );
}

/** Returns the end of a text about a peer that names its job; empty for a peer that is a member of no job. */
export function inJob(job: string): string {
  return job === '' ? '' : ` in ${job}`;
}
