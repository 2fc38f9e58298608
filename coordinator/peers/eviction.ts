/** Number of rounds for which an update protects its absent author from eviction, so that a short absence costs nothing. */
export const RECENT_ROUNDS = 64;
/**
 * Number of rounds after which a present member may be evicted if it has never delivered an update. By then each member
 * has been assigned twice, even if 4,096 are present and a round takes 512.
 */
export const IDLE_ROUNDS = 16;

/** Facts about a member that decide whether it may be evicted. */
export interface Member {
  readonly peer: string;
  /**
   * The newest round at the time when the member joined; for members that joined before this coordinator started, the
   * newest round at that start.
   */
  readonly joinedRound: number;
  /** When the member was last heard, in milliseconds since the epoch. */
  readonly seenAt: number;
  readonly present: boolean;
  /** Whether the round in progress has work for the member. */
  readonly assigned: boolean;
  /** Newest round for which the member has an update that was not refused; null if there is none. */
  readonly delivered: number | null;
}

/**
 * Chooses the member whose place a newcomer gets in a full job. Returns null if all must stay. Chooses in this order:
 * - absent members that have never delivered an update;
 * - present members that joined IDLE_ROUNDS ago and have never delivered one;
 * - absent members whose last update is more than RECENT_ROUNDS old.
 *
 * Within each of these groups, it chooses the member that has been silent for longest. Members that deliver updates are
 * never evicted, so a flood of newcomers cannot displace them.
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
