/** Rounds in which a node must have delivered to keep its place whatever happens: a few days away cost nobody anything. */
export const RECENT_ROUNDS = 64;
/**
 * A node that is there and has not delivered in this many rounds is not going to. Where more are present than a round
 * takes (512 of 4,096), each has had its turn by then, twice.
 */
export const IDLE_ROUNDS = 16;

/** What decides whether an admitted node keeps its place when the house is full. */
export interface Member {
  readonly peer: string;
  /** The round that was open when it joined, or when this coordinator started. */
  readonly joinedRound: number;
  readonly seenAt: number;
  readonly present: boolean;
  /** In the open round. */
  readonly assigned: boolean;
  /** Newest round of which it has an update that was not refused; null: none. */
  readonly delivered: number | null;
}

/**
 * Whose place a newcomer gets when the house is full; null when all have to stay. Those that never delivered go first:
 * the absent before the present, the longest silent first. Somebody who works is never moved by those who only come and
 * go: who delivered lately or is at work stays, and who has just come gets time to show what it does.
 */
export function memberToEvict(seats: readonly Member[], round: number): string | null {
  const rank = ({ present, assigned, delivered, joinedRound }: Member): number | null => {
    if (assigned) return null;
    if (delivered !== null) return !present && delivered < round - RECENT_ROUNDS ? 2 : null;
    if (!present) return 0;
    return joinedRound <= round - IDLE_ROUNDS ? 1 : null;
  };
  let chosen: { seat: Member; rank: number } | null = null;
  for (const seat of seats) {
    const own = rank(seat);
    if (own === null) continue;
    if (!chosen || own < chosen.rank || (own === chosen.rank && seat.seenAt < chosen.seat.seenAt)) {
      chosen = { seat, rank: own };
    }
  }
  return chosen?.seat.peer ?? null;
}
