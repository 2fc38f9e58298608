/** Names an update of a job: its author, and the round that it was trained for. */
export interface UpdateKey {
  readonly peer: string;
  readonly round: number;
}

export function isSameUpdate(a: UpdateKey, b: UpdateKey): boolean {
  return a.peer === b.peer && a.round === b.round;
}
