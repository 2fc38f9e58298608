import type { Person } from './gate.ts';

/**
 * Share (see verify/scores/belief.ts) below which an update is suspicious. In the measurements of decision 043, this limit
 * separates attackers from most honest updates. A suspicious update is removed only if the merge with it does not pass
 * the gate.
 */
export const SUSPECT_SHARE = 0.4;

/** An update in a merge, with the facts that decide how suspicious it is. */
export interface KnownUpdate<Source> {
  readonly source: Source;
  /** Person who answers for the author; see `personOf`. */
  readonly person: string;
  readonly weight: number;
  readonly norm: number;
  /** Share of the update; null if it is unknown. */
  readonly share: number | null;
}

/**
 * Groups updates by person, and sorts the persons from the most to the least suspicious:
 * 1. persons with a share below SUSPECT_SHARE, the lowest share first
 * 2. persons whose updates have no share, the greatest norm first
 * 3. all other persons, the lowest share first
 */
export function suspicionOf<Source>(updates: readonly KnownUpdate<Source>[]): Person<Source>[] {
  const byPerson = Map.groupBy(updates, ({ person }) => person);
  const persons = [...byPerson.values()].map((own) => {
    const shares = own.flatMap(({ share }) => (share === null ? [] : [share]));
    const share = shares.length > 0 ? Math.min(...shares) : null;
    return {
      sources: own.map(({ source }) => source),
      weight: own.reduce((sum, { weight }) => sum + weight, 0),
      isSuspect: share !== null && share < SUSPECT_SHARE,
      share,
      norm: Math.max(...own.map(({ norm }) => norm)),
    };
  });
  const rank = ({ share, isSuspect }: (typeof persons)[number]): number =>
    isSuspect ? 0 : share === null ? 1 : 2;
  return persons
    .sort((a, b) => rank(a) - rank(b) || (a.share ?? 0) - (b.share ?? 0) || b.norm - a.norm)
    .map(({ sources, weight, isSuspect }) => ({ sources, weight, isSuspect }));
}
