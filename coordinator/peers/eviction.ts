/** Rounds during which a delivery protects an absent member from eviction, so that a few days away cost nothing. */
export const RECENT_ROUNDS = 64;
/**
 * Rounds without a delivery after which a present member may be evicted. When more members are present than a round takes
 * (512 of 4,096), each has been assigned twice by then.
 */
export const IDLE_ROUNDS = 16;

/** Facts about a member that decide whether it may be evicted. */
export interface Member {
  readonly peer: string;
  /** The round that was open when it joined, or when this coordinator started. */
  readonly joinedRound: number;
  /** When it was last heard, milliseconds since the epoch. */
  readonly seenAt: number;
  readonly present: boolean;
  /** Whether it is assigned in the open round. */
  readonly assigned: boolean;
  /** Newest round of which it has an update that was not refused; null: none. */
  readonly delivered: number | null;
}

/**
 * Chooses the member whose place a newcomer gets in a full job; null when all must stay. In this order: absent members that
 * never delivered, present ones that never delivered for IDLE_ROUNDS, absent ones whose last delivery is RECENT_ROUNDS
 * old; among equals the one that has been silent longest. Members that deliver are never evicted, so a flood of newcomers
 * cannot displace them.
 */
export function memberToEvict(members: readonly Member[], round: number): string | null {
  const rank = ({ present, assigned, delivered, joinedRound }: Member): number | null => {
    if (assigned) return null;
    if (delivered !== null) return !present && delivered < round - RECENT_ROUNDS ? 2 : null;
    if (!present) return 0;
    return joinedRound <= round - IDLE_ROUNDS ? 1 : null;
  };
  let chosen: { member: Member; rank: number } | null = null;
  for (const member of members) {
    const own = rank(member);
    if (own === null) continue;
    if (!chosen || own < chosen.rank || (own === chosen.rank && member.seenAt < chosen.member.seenAt)) {
      chosen = { member, rank: own };
    }
  }
  return chosen?.member.peer ?? null;
}
