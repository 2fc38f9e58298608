import type { JobEvent } from '../protocol/api/job-events.ts';
import type { JobMoment } from './replay.ts';

/** Finds the end of a round among the events of a job, which must come in their order. */
export class RoundEnd {
  readonly #round: number;
  /** Time of the event that ended the round; null before this event. */
  #at: number | null = null;

  constructor(round: number) {
    this.#round = round;
  }

  /** Returns whether an event happened after the end of the round. */
  isPassedBy(event: JobEvent): boolean {
    if (event.type === 'round-opened' && event.round > this.#round) return true;
    // The events of one step of the job have the same time. They also say what followed from the end, such as a pause.
    if (this.#at !== null && event.at !== this.#at) return true;
    if (endsRound(event) && event.round === this.#round) this.#at = event.at;
    return false;
  }

  /**
   * Returns whether the events of the round, or its last ones, are missing, because the coordinator had lost them when it
   * caught up with its nodes.
   */
  isLostIn(event: JobEvent): event is Extract<JobEvent, { type: 'caught-up' }> {
    return event.type === 'caught-up' && this.#at === null && event.round >= this.#round;
  }
}

function endsRound(event: JobEvent): event is Extract<JobEvent, { round: number }> {
  return event.type === 'checkpoint' || event.type === 'null-round' || event.type === 'rolled-back';
}

/**
 * Returns the state of a job before an event. If the event opens a round at the same time as the newest event, the job has
 * not waited for this round.
 */
export function momentBefore(event: JobEvent, moment: JobMoment): JobMoment {
  if (event.type !== 'round-opened' || event.at !== moment.at) return moment;
  const opened = `round ${event.round} opened at once`;
  return {
    ...moment,
    phase: 'training',
    reason: moment.reason === '' ? opened : `${moment.reason}; ${opened}`,
  };
}
