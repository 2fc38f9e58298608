/** Identifies an update of a job by its author and the round in which it was trained. */
export interface UpdateKey {
  readonly peer: string;
  readonly round: number;
}

export function isSameUpdate(a: UpdateKey, b: UpdateKey): boolean {
  return a.peer === b.peer && a.round === b.round;
}
