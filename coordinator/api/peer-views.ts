import type { Clock } from '../../common/time/clock.ts';
import { type PeerFacts, peerHealth } from '../../monitor/peer-health.ts';
import type { OtherVersion, PeerConnection } from '../../net/network.ts';
import type { StrikeKind } from '../../protocol/api/job-events.ts';
import type {
  BanView,
  FormerPeer,
  PeerReceipts,
  PeerScore,
  PeerStrike,
  PeerView,
} from '../../protocol/api/peers.ts';
import { holdMeanings } from '../../protocol/holds.ts';
import { STALE_ROUNDS } from '../../protocol/limits.ts';
import { counts, receiptMeanings } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { inviteOf, personOf } from '../peers/person.ts';
import type { Tally } from '../record/receipts.ts';
import { undelivered } from '../round/close.ts';
import { isOpen, isOver } from '../round/job-phase.ts';
import type { JobState } from '../round/state.ts';
import type { StoredBan } from '../store/store.ts';
import { nodeOf, versionHold, waitingView } from './waiting-view.ts';

/** Kinds of misdeeds in words. */
const MISDEEDS: Readonly<Record<StrikeKind, string>> = {
  harmful: 'the update raises the loss, or changes nothing',
  outlier: 'the update is many times larger than the others of its round',
  'bad-payload': 'the payload that the node signed cannot be decoded',
  disbelief: 'three scored updates in a row were hardly better than no work',
  audit:
    'the update differs too much from the result of an audit, in which the coordinator trained on the same rows',
  conflicting:
    'the node signed two different updates for the round, and the coordinator keeps both as proof. An honest node does this if it loses its database in the middle of a round, or if two machines use copies of its home. In that case, lift the ban with "lora-swarm peers pardon"',
};

/** Maximum number of receipts that `lora-swarm peers --why` shows for one peer and job. */
const SHOWN_RECEIPTS = 200;
/** Maximum number of bans that `lora-swarm peers` shows. */
const SHOWN_BANS = 200;
/** Maximum number of removed nodes whose names the control API returns. */
const SHOWN_FORMER = 4096;
/** Maximum number of scores that `lora-swarm peers --why` shows for one peer and job. */
const SHOWN_SCORES = 20;

export interface PeerViewsDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'clock'> {
  readonly coordinator: Coordinator;
}

/** Builds the answers of the control API about peers. */
export class PeerViews {
  readonly #coordinator: Coordinator;
  readonly #deps: PeerViewsDeps;

  constructor(deps: PeerViewsDeps) {
    this.#coordinator = deps.coordinator;
    this.#deps = deps;
  }

  /**
   * Sums up what the nodes have contributed up to the newest checkpoints. The list of the peers has these sums. The first
   * call reads all checkpoints of the jobs, so it lets other work of the coordinator run in between.
   */
  async countTokens(): Promise<void> {
    await Promise.all(
      this.#coordinator
        .jobs()
        .map(({ contributions, record }) => contributions.upTo(record.checkpoint.checkpoint.round)),
    );
  }

  /**
   * Returns all members of all jobs, nodes that cannot join a job because of their clocks, and connected nodes of other
   * versions. A node of another version that is a member of no job is listed without a job.
   */
  peers(): PeerView[] {
    const { network } = this.#deps;
    const connections = new Map(network.peers().map((connection) => [connection.peer, connection]));
    const others = new Map(network.otherVersions().map((other) => [other.peer, other]));
    const runs = this.#coordinator.jobs();
    const views = runs.flatMap((run) => {
      const { context, members } = run;
      const place = { job: context.job, jobName: context.stored.name };
      const isStranger = ({ peer }: { peer: string }): boolean => !members.list.has(peer);
      return [
        ...this.#members(run, connections, others),
        ...members.refused
          .all()
          .filter(isStranger)
          .map((node) => waitingView(node, place, connections)),
      ];
    });
    const strangers = [...others.values()].filter(
      ({ peer }) => !runs.some(({ members }) => members.list.has(peer)),
    );
    const nowhere = { job: '', jobName: '' };
    return [...views, ...strangers.map((other) => waitingView(nodeOf(other), nowhere, connections))];
  }

  #members(
    { context, driver, members, receipts, ledger, contributions }: JobRun,
    connections: ReadonlyMap<string, PeerConnection>,
    others: ReadonlyMap<string, OtherVersion>,
  ): PeerView[] {
    const { clock } = this.#deps;
    const awaited = awaitedPeers(driver.state, clock);
    return members.list.all().map((entry): PeerView => {
      const connection = connections.get(entry.peer);
      const present = members.liveness.get(entry.peer);
      const heartbeat = present?.heartbeat ?? null;
      const other = others.get(entry.peer);
      const held =
        present?.hold ?? members.refused.get(entry.peer)?.hold ?? (other && versionHold(other)) ?? null;
      const { accepted, refused, unmerged, last } = receipts.tally(entry.peer);
      const seenAt = members.liveness.seenAt(entry.peer) ?? entry.joinedAt;
      // A former member with a hold is back, but cannot join.
      const gone = entry.saidGoodbye ? (held === null ? 'left' : 'joining') : 'lost';
      const state = present ? (heartbeat?.state ?? 'joining') : gone;
      const standing = ledger.standings.ofMember(entry);
      const rttMs = connection?.rttMs ?? null;
      const lastSeenSeconds = Math.max(0, (clock.now() - seenAt) / 1000);
      const stillSeconds = present ? (clock.monotonic() - present.progressAt) / 1000 : lastSeenSeconds;
      return {
        peer: entry.peer,
        name: entry.name,
        person: personOf(entry),
        role: entry.role,
        job: context.job,
        jobName: context.stored.name,
        address: connection?.address ?? null,
        connected: connection !== undefined,
        state,
        hold: held,
        round: heartbeat?.round ?? 0,
        step: heartbeat?.step ?? 0,
        steps: heartbeat?.steps ?? 0,
        tokensPerSecond: heartbeat?.tokensPerSecond ?? entry.speed,
        // The heartbeat has the newest engine. A node with engine `auto` knows its engine only after it has
        // joined.
        engine: heartbeat?.engine ?? entry.engine,
        rttMs,
        lastSeenSeconds,
        stillSeconds,
        health: peerHealth({
          isJobOver: isOver(driver.state),
          state,
          isDuplicate: members.processes.runs.duplicateSince(entry.peer) !== null,
          hold: held && holdMeanings[held.reason],
          standing,
          stillSeconds,
          awaitedSeconds: awaited.peers.has(entry.peer) ? awaited.seconds : null,
          lastSeenSeconds,
          rttMs,
          ...outcomeOf(last),
        }),
        accepted,
        refused,
        unmerged,
        tokens: contributions.tokensOf(entry.peer),
        score: this.#scores(context.job, entry.peer, 1)[0] ?? null,
        last: last && { round: last.round, code: last.code, detail: last.detail },
        standing,
        strikes: ledger.standings.strikesOf(entry),
        bytesSent: heartbeat?.bytesSent ?? 0,
        bytesReceived: heartbeat?.bytesReceived ?? 0,
      };
    });
  }

  #scores(job: string, peer: string, limit: number): PeerScore[] {
    return this.#deps.store.scores.ofPeer(job, peer, limit).map(({ mergeRound, belief, share, figures }) => ({
      job,
      round: mergeRound,
      belief,
      share,
      effect: figures?.effect ?? null,
      gain: figures?.gain ?? null,
      exact: figures?.exact ?? null,
    }));
  }

  #isMerged(job: string, { round, peer, digest }: { round: number; peer: string; digest: string }): boolean {
    const { updates, rounds } = this.#deps.store;
    const update = updates.find(job, round, peer);
    if (update !== null) return update.digest === digest && update.fate === 'merged';
    // After the restore of an old backup, a recovered checkpoint can contain an update that the database lacks.
    return Array.from({ length: STALE_ROUNDS + 1 }, (_, late) => rounds.checkpoint(job, round + late)).some(
      (found) =>
        found !== null &&
        verifyMessage('checkpoint', found.envelope).message.contributors.some(
          (one) => one.peer === peer && one.update === digest,
        ),
    );
  }

  /** Returns a peer's receipts and scores from all jobs, newest first. */
  receipts(peer: string): PeerReceipts {
    const { store } = this.#deps;
    const receipts = this.#coordinator.jobs().flatMap(({ context }) =>
      store.updates
        .receipts(context.job, peer, SHOWN_RECEIPTS)
        .map(({ round, digest, code, detail, issuedAt }) => ({
          job: context.job,
          jobName: context.stored.name,
          round,
          code,
          detail,
          meaning: receiptMeanings[code],
          isMerged: counts(code) && this.#isMerged(context.job, { round, peer, digest }),
          at: issuedAt,
        })),
    );
    const scores = this.#coordinator.jobs().flatMap(({ context: { job, stored } }) => {
      return this.#scores(job, peer, SHOWN_SCORES).map((score) => ({ ...score, jobName: stored.name }));
    });
    const trust = this.#coordinator.jobs().map((run) => this.#trust(run, peer));
    const persons = [{ peer, person: peer }, ...trust.map(({ who }) => who)];
    const bans = new Map(persons.flatMap((who) => store.bans.of(who)).map((ban) => [ban.id, ban]));
    return {
      peer,
      receipts: receipts.sort((a, b) => b.at - a.at),
      scores,
      standings: trust.flatMap(({ standing }) => (standing === null ? [] : [standing])),
      strikes: trust.flatMap(({ strikes }) => strikes).sort((a, b) => b.at - a.at),
      bans: [...bans.values()].sort((a, b) => b.id - a.id).map((ban) => this.#banView(ban)),
    };
  }

  /** Returns the newest bans in force, newest first. */
  bans(): BanView[] {
    const { store, clock } = this.#deps;
    return store.bans.inForce(clock.now(), SHOWN_BANS).map((ban) => this.#banView(ban));
  }

  /** Returns nodes that were removed from a job for good, with the names that they had there. */
  former(): FormerPeer[] {
    return this.#deps.store.peers.former(SHOWN_FORMER);
  }

  #banView({ id: _, ...ban }: StoredBan): BanView {
    const { store } = this.#deps;
    const invite = inviteOf(ban.person);
    const jobs = this.#coordinator.jobs().map(({ context }) => context);
    const invites = jobs.flatMap(({ job }) => store.invites.all(job));
    return {
      ...ban,
      jobName: jobs.find(({ job }) => job === ban.job)?.stored.name ?? null,
      name: store.peers.nameOf(ban.peer),
      inviteName: invites.find(({ id }) => id === invite)?.name ?? null,
    };
  }

  /** Returns a peer's strikes and standing in a job. The standing is null if the job does not know the peer. */
  #trust({ context, ledger, members }: JobRun, peer: string) {
    const { job, stored } = context;
    const { store } = this.#deps;
    const place = { job, jobName: stored.name };
    const who = ledger.standings.who(peer);
    const own = store.strikes.of(job, who);
    const { standing, untilRound, ban } = ledger.standings.of(who);
    const isKnown = members.list.has(peer) || own.length > 0 || ban !== null;
    const counted = own.filter(({ pardonedAt }) => pardonedAt === null).length;
    const strikes = own.map(({ person: _, ...strike }): PeerStrike => {
      const receipt = strike.digest && store.updates.receipt(job, strike.peer, strike.digest);
      return { ...place, ...strike, meaning: MISDEEDS[strike.kind], receipt: receipt ? receipt.code : null };
    });
    const invite = store.invites.all(job).find(({ id }) => id === store.invites.inviteOf(job, peer));
    const person = { person: who.person, invite: invite ? { id: invite.id, name: invite.name } : null };
    const facts = { ...place, ...person, standing, untilRound, strikes: counted };
    return { who, strikes, standing: isKnown ? facts : null };
  }
}

/** Returns the peers whose updates the open round waits for, and for how many seconds it has waited. */
function awaitedPeers(state: JobState, clock: Clock): { peers: ReadonlySet<string>; seconds: number } {
  const { current } = state;
  if (current === null || !isOpen(state)) return { peers: new Set(), seconds: 0 };
  const seconds = Math.max(0, clock.monotonic() - current.openedAt) / 1000;
  const held = new Set(current.held);
  return { peers: new Set(undelivered(current).filter((peer) => !held.has(peer))), seconds };
}

/** Returns why a peer's newest update was refused, or was not merged although nothing is wrong with it. */
function outcomeOf(last: Tally['last']): Pick<PeerFacts, 'refusal' | 'unmerged'> {
  if (last === null || counts(last.code)) return { refusal: null };
  const meaning = receiptMeanings[last.code];
  return last.code === 'null-round'
    ? { refusal: null, unmerged: last.detail === '' ? meaning : last.detail }
    : { refusal: meaning };
}
