/** Bans and pardons, which can concern several jobs of a coordinator. */
import type { CoordinatorDeps } from './context.ts';
import type { JobRun } from './job-run.ts';
import type { StoredBan } from './store/store.ts';

interface SanctionDeps extends Pick<CoordinatorDeps, 'store' | 'clock'> {
  /** The jobs in which the ban or the pardon applies. */
  readonly runs: readonly JobRun[];
}

/**
 * An operator's ban. `job` is the digest of the job from which the person is banned, or null for a ban from
 * all jobs.
 */
type NewBan = Pick<StoredBan, 'job' | 'reason' | 'until'>;

/** Bans a peer, and all other peers of the person who answers for it. */
export function banPeer(peer: string, ban: NewBan, { runs, store, clock }: SanctionDeps): void {
  const imposed = { cause: 'operator', ...ban } as const;
  const known = runs.filter(
    ({ members, ledger }) =>
      members.mayRead(peer) || members.invites.inviteOf(peer) !== null || ledger.standings.hasStruck(peer),
  );
  // A personal invite comes first, because a ban of its person includes the peer itself. Jobs in which the peer has no
  // invite then add no second ban.
  const persons = known
    .map(({ driver, ledger }) => ({ driver, ledger, who: ledger.standings.who(peer) }))
    .sort((a, b) => Number(a.who.person === peer) - Number(b.who.person === peer));
  for (const { driver, ledger, who } of persons) {
    driver.transact((outbox) => ledger.bans.impose(who, imposed, outbox));
  }
  if (known.length > 0) return;
  // No job knows the peer, so there is nothing to remove.
  store.transaction(() => store.bans.insertOnce({ peer, person: peer, ...imposed, at: clock.now() }));
}

/**
 * Lifts the strikes and the bans of the person who answers for a peer.
 * @param options `job`: digest of the job in which the person is pardoned; null for all jobs
 */
export function pardonPeer(
  peer: string,
  { job }: { job: string | null },
  { runs, store, clock }: SanctionDeps,
): void {
  // Find the bans before the loop, because the first pardon of a ban from all jobs lifts it in every job.
  const found = runs.flatMap(({ ledger }) =>
    store.bans.pardonable(ledger.standings.who(peer), job, clock.now()),
  );
  const lifted = [...new Map(found.map((ban) => [ban.id, ban])).values()];
  for (const { driver, ledger, context } of runs) {
    const own = lifted.filter((ban) => ban.job === null || ban.job === context.job);
    // Pardoned nodes may train again, so a job that waits for nodes may now have enough of them. The event lets the
    // state machine check this.
    driver.dispatch({ type: 'judged', peers: {} }, (outbox) => {
      ledger.pardon(ledger.standings.who(peer), { onlyJob: job !== null, lifted: own }, outbox);
      // The rotation raises the number of removals. The nodes then replace their records, which still have
      // the ban.
      if (own.length > 0) context.keys.rotate();
    });
  }
  if (job === null) {
    store.transaction(() => store.bans.pardon({ peer, person: peer }, null, clock.now()));
  }
}
