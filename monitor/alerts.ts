import type { HealthMark } from './health-marks.ts';

/** A job or peer that is not healthy, with the reason and what the operator can do. */
export interface Alert<P> extends HealthMark {
  readonly level: 'red' | 'yellow';
  /** Name of the job. */
  readonly job: string;
  /** The peer; null if the alert is about the job itself. */
  readonly peer: P | null;
}

/** Returns the jobs and peers that are not healthy: red before yellow, and jobs before peers of the same level. */
export function alertsOf<P extends { readonly jobName: string; readonly health: HealthMark }>(
  jobs: readonly { readonly name: string; readonly health: HealthMark }[],
  peers: readonly P[],
): Alert<P>[] {
  const all = [
    ...jobs.map(({ name, health }) => ({ ...health, job: name, peer: null })),
    ...peers.map((peer) => ({ ...peer.health, job: peer.jobName, peer })),
  ];
  return (['red', 'yellow'] as const).flatMap((level) =>
    all.filter((one) => one.level === level).map((one) => ({ ...one, level })),
  );
}
