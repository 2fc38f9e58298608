import type { BanEnforcement, RunContext } from '../context.ts';
import type { Outbox } from '../record/outbox.ts';
import type { Receipts } from '../record/receipts.ts';
import type { RoundDriver } from '../record/round-driver.ts';
import type { StoredPeer } from '../store/store.ts';
import type { Ledger } from '../trust/ledger.ts';
import { isSamePerson, type Who, whoIs } from '../trust/who.ts';
import type { Invites } from './invites.ts';
import type { Liveness } from './liveness.ts';
import type { MemberList } from './member-list.ts';

/**
 * Time in milliseconds from the removal of a member to the end of its connections. In this time, the last receipts
 * reach the member.
 */
const DISCONNECT_AFTER_MS = 500;

/** Reason for removing a member permanently. */
type Cause = 'revoked' | 'banned';

type Banned = Parameters<BanEnforcement['remove']>[0];

interface RemovalDeps {
  readonly context: RunContext;
  readonly driver: RoundDriver;
  readonly receipts: Receipts;
  readonly ledger: Ledger;
  readonly members: MemberList;
  readonly invites: Invites;
  readonly liveness: Liveness;
}

/**
 * Removes members permanently, after a ban or the revocation of their invite. The transaction that records
 * the cause also changes the job key, so that no removed peer can read a later head. If the coordinator is
 * killed before it has removed the members, it removes them at its next start.
 */
export class Removals {
  readonly #deps: RemovalDeps;

  constructor(deps: RemovalDeps) {
    this.#deps = deps;
  }

  /**
   * Permanently revokes an invite and removes its members.
   * @param id null for the shared invite
   * @throws SwarmError INVITE_WITHOUT_TOKEN
   */
  revokeInvite(id: string | null): void {
    const { context, driver, invites } = this.#deps;
    invites.checkRevocable(id);
    driver.transact(() => {
      if (invites.revoke(id)) context.keys.rotate();
    });
    // Close the connections of readers too. They are not members, so `removeRevoked` does not find them.
    if (id !== null) this.#disconnect(invites.boundTo(id).keys());
    this.removeRevoked();
  }

  /** Changes the job key if a machine of the person may have it. The caller bans the person in the same transaction. */
  changeKeyOf(who: Who): void {
    if (this.#membersOf(who).length > 0 || this.#deps.invites.readersOf(who).length > 0) {
      this.#deps.context.keys.rotate();
    }
  }

  /**
   * Removes the members that a banned person answers for, and closes the connections of the person's other machines.
   */
  removePerson(who: Who): void {
    const readers = this.#deps.invites.readersOf(who);
    const members = this.#membersOf(who);
    this.#remove(members, 'banned');
    const removed = new Set(members.map(({ peer }) => peer));
    this.#disconnect(readers.filter((peer) => !removed.has(peer)));
  }

  /**
   * Removes banned members that were not removed after the ban, because the coordinator was killed in
   * between.
   */
  removeBanned(): void {
    const { members, ledger } = this.#deps;
    const banned = members.all().filter((member) => ledger.bans.isBanned(whoIs(member)));
    this.#remove(banned, 'banned');
  }

  /** Removes all members whose invite is revoked. */
  removeRevoked(): void {
    const { members, invites } = this.#deps;
    const revoked = members.all().filter((member) => invites.isRevoked(member));
    this.#remove(revoked, 'revoked');
  }

  /**
   * Carries out removals that the database had lost, and that a transaction has added to it again. This transaction
   * must have changed the job key.
   * @param restored invites that were revoked, and bans
   */
  carryOut({ invites, bans }: { invites: readonly { id: string }[]; bans: readonly Banned[] }): void {
    this.#deps.invites.readRevocations();
    for (const { id } of invites) this.#disconnect(this.#deps.invites.boundTo(id).keys());
    this.removeRevoked();
    for (const ban of bans) this.#deps.context.enforcement.remove(ban);
  }

  #membersOf(who: Who): StoredPeer[] {
    return this.#deps.members.all().filter((member) => isSamePerson(whoIs(member), who));
  }

  /**
   * Removes members in one transaction. From now on, their messages are refused, and their updates that have not been
   * merged yet do not count.
   */
  #remove(members: readonly StoredPeer[], reason: Cause): void {
    if (members.length === 0) return;
    const { context, driver, receipts, ledger, liveness } = this.#deps;
    const { deps } = context;
    const peers = members.map(({ peer }) => peer);
    for (const peer of peers) {
      this.#deps.members.delete(peer);
      ledger.standings.memberChanged(peer);
    }
    driver.dispatch({ type: 'peers-removed', peers }, (outbox) => {
      for (const member of members) {
        const { peer, name } = member;
        deps.store.peers.remove(context.job, peer);
        deps.store.peers.keepFormer(context.job, member);
        this.#undoUpdates(peer, outbox);
        outbox.event({ type: 'peer-lost', peer, name, reason });
      }
    });
    for (const peer of peers) {
      liveness.forget(peer);
      receipts.forget(peer);
    }
    // The delay lets the peers get the receipts that give the reason for their removal.
    deps.clock.after(DISCONNECT_AFTER_MS, () => this.#disconnect(peers));
  }

  #undoUpdates(peer: string, outbox: Outbox): void {
    const { job, stored, deps } = this.#deps.context;
    const code = 'not-admitted';
    const detail = 'the node was removed from the job before the update was merged';
    const issuedAt = deps.clock.now();
    for (const { round, digest } of deps.store.updates.waitingOf(job, peer)) {
      deps.store.updates.remove(job, round, peer);
      outbox.receipt({ term: stored.term, round, peer, digest, code, detail, issuedAt });
      outbox.event({ type: 'update-undone', round, peer, code, detail });
    }
  }

  /** Closes the connections of all given peers that are not members. */
  #disconnect(peers: Iterable<string>): void {
    const { members, context } = this.#deps;
    for (const peer of peers) if (!members.has(peer)) context.deps.network.disconnect(peer);
  }
}
