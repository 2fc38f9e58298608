/**
 * `green`: the peer or job works. `yellow`: it works less well than it could. `red`: it has a problem that the operator
 * must solve. `grey`: it does nothing now, as planned.
 */
export type HealthLevel = 'green' | 'yellow' | 'red' | 'grey';

/** The level of a peer or job, and the rule that decided it. */
export interface HealthMark {
  readonly level: HealthLevel;
  readonly reason: string;
  /** Advice for the operator; empty if the level is green or grey. */
  readonly next: string;
}
