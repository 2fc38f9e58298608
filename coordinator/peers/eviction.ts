/**
 * Number of rounds for which an update protects its absent author from eviction, so that a node does not lose its place
 * in the job because of a short absence.
 */
export const RECENT_ROUNDS = 64;
/**
 * Number of rounds after which a present member may be evicted if it has never delivered an update. After 16 rounds,
 * each member has been assigned work twice, even if 4,096 members are present and a round takes 512 of them.
 */
export const IDLE_ROUNDS = 16;

/** Facts about a member that decide whether it may be evicted. */
export interface Member {
  readonly peer: string;
  /**
   * The newest round at the time when the member joined. For a member that joined before this coordinator process
   * started, this is the newest round at the start of the process.
   */
  readonly joinedRound: number;
  /** Time of the member's last sign of life, in milliseconds since the epoch. */
  readonly seenAt: number;
  readonly present: boolean;
  /** Whether the round in progress has work for the member. */
  readonly assigned: boolean;
  /** Newest round for which the member has an update that was not refused; null if there is none. */
  readonly delivered: number | null;
}

/**
 * Chooses the member that loses its place to a new node in a full job. Returns null if all members must stay. Chooses
 * from the first of these groups that has members:
 * - absent members that have never delivered an update;
 * - present members that joined at least IDLE_ROUNDS rounds ago and have never delivered an update;
 * - absent members whose last update is more than RECENT_ROUNDS rounds old.
 *
 * Within a group, it chooses the member that has been silent for longest. Present members that have delivered an update
 * are never evicted, so a flood of new nodes cannot displace them.
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
