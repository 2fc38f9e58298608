import { jobHealth, peerHealth } from '../../monitor/health-rules.ts';
import type { StrikeKind } from '../../monitor/job-events.ts';
import { holdMeanings } from '../../protocol/holds.ts';
import { counts, receiptMeanings } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { inviteTo } from '../jobs/invite.ts';
import { personOf } from '../peers/person.ts';
import { awaitedBy, queuedReason } from '../queue.ts';
import { deadlineOf } from '../round/close.ts';
import { isOpen, needsOperator } from '../round/job-phase.ts';
import type { JobState } from '../round/state.ts';
import type { StoredBan, StoredCheckpoint } from '../store/store.ts';
import { checkpointTasks, type EvaluatedCheckpoints, jobTasks, settingsChanges } from './job-views.ts';
import type {
  BanView,
  CheckpointView,
  CoordinatorStatus,
  JobDetail,
  JobSummary,
  PeerReceipts,
  PeerScore,
  PeerStrike,
  PeerView,
} from './types.ts';

/** Kinds of misdeeds in words. */
const MISDEEDS: Readonly<Record<StrikeKind, string>> = {
  harmful: 'the update raises the loss, or changes nothing',
  outlier: 'the update is many times larger than the others of its round',
  'bad-payload': 'the payload that the node signed does not decode',
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
/** Maximum number of scores that `lora-swarm peers --why` shows for one peer and job. */
const SHOWN_SCORES = 20;

export interface ViewOptions {
  readonly version: string;
  readonly startedAt: number;
}

/** Builds the answers of the control API from running jobs, store and network. */
export class Views {
  readonly #options: ViewOptions;
  readonly #coordinator: Coordinator;
  readonly #deps: Pick<CoordinatorDeps, 'network' | 'store' | 'blobs' | 'folders' | 'clock'>;

  constructor(
    options: ViewOptions,
    deps: { coordinator: Coordinator } & Pick<
      CoordinatorDeps,
      'network' | 'store' | 'blobs' | 'folders' | 'clock'
    >,
  ) {
    this.#options = options;
    this.#coordinator = deps.coordinator;
    this.#deps = deps;
  }

  status(): CoordinatorStatus {
    const { network, clock } = this.#deps;
    return {
      schemaVersion: 1,
      role: 'coordinator',
      peerId: network.signer.peerId,
      addresses: network.addresses(),
      version: this.#options.version,
      uptimeSeconds: (clock.now() - this.#options.startedAt) / 1000,
      traffic: network.traffic(),
      jobs: this.jobs(),
    };
  }

  jobs(): JobSummary[] {
    return this.#coordinator.jobs().map((run) => this.job(run));
  }

  job(run: JobRun): JobSummary {
    const { context, driver, record, members } = run;
    const { state } = driver;
    const { stored, settings } = context;
    const { digest, checkpoint, ordinal } = record.checkpoint;
    const { metrics, round } = checkpoint;
    const awaited = awaitedBy(run, this.#coordinator.jobs());
    const reason = awaited === null ? state.reason : queuedReason(awaited);
    const history = this.#history(context.job);
    return {
      job: context.job,
      name: stored.name,
      phase: state.phase,
      round: state.round,
      rounds: settings.newest.count,
      roundsDone: ordinal,
      secondsLeft: this.#secondsLeft(state),
      peers: members.liveness.size,
      baseLoss: stored.baseLoss,
      heldOutLoss: metrics.heldOutLoss,
      checkpoint: { round, digest },
      ...history,
      tokensPerSecond: metrics.seconds > 0 ? metrics.tokens / metrics.seconds : 0,
      reason,
      priority: context.place.priority,
      newestChange: settingsChanges(run).at(-1) ?? null,
      tasks: jobTasks(context.job, this.#deps.store),
      after: awaited && { job: awaited.context.job, name: awaited.context.stored.name },
      needsOperator: needsOperator(state),
      health: jobHealth({
        ...state,
        reason,
        needsOperator: needsOperator(state),
        heldOutLoss: metrics.heldOutLoss,
        lowestLoss: this.#deps.store.rounds.lowestLoss(context.job)?.heldOutLoss ?? null,
      }),
      invite:
        members.invites.sharedRevokedAt === null
          ? inviteTo({ job: context.job, token: members.invites.sharedToken }, this.#deps.network)
          : null,
    };
  }

  #history(job: string): Pick<JobSummary, 'best' | 'rolledBack'> {
    const { store } = this.#deps;
    const { rounds } = store;
    const best = bestCheckpoint(job, store);
    const rollBack = rounds.newestRollBack(job);
    return {
      best: best && { round: best.round, heldOutLoss: best.heldOutLoss },
      rolledBack: rollBack && { round: rollBack.round, to: rollBack.restores! },
    };
  }

  /** Returns the number of updates that are being fetched or checked, for each job. */
  intakeQueues(): { name: string; updates: number }[] {
    return this.#coordinator
      .jobs()
      .map(({ context, intake }) => ({ name: context.stored.name, updates: intake.queueLength }));
  }

  detail(run: JobRun): JobDetail {
    const { current, round } = run.driver.state;
    return {
      ...this.job(run),
      manifest: run.context.manifest,
      settings: run.context.settings.newest,
      settingsChanges: settingsChanges(run),
      createdAt: run.context.stored.createdAt,
      updates: {
        round,
        assigned: [...(current?.assigned ?? [])],
        received: [...(current?.delivered ?? [])],
      },
    };
  }

  /** Returns all members of all jobs. */
  peers(): PeerView[] {
    const { network, clock } = this.#deps;
    const connections = new Map(network.peers().map((connection) => [connection.peer, connection]));
    return this.#coordinator.jobs().flatMap(({ context, members, receipts, ledger }) =>
      members.all().map((entry): PeerView => {
        const connection = connections.get(entry.peer);
        const present = members.liveness.get(entry.peer);
        const heartbeat = present?.heartbeat ?? null;
        const held = present?.hold ?? null;
        const { accepted, refused, last } = receipts.tally(entry.peer);
        const seenAt = members.liveness.seenAt(entry.peer) ?? entry.joinedAt;
        const state = present ? (heartbeat?.state ?? 'joining') : entry.saidGoodbye ? 'left' : 'lost';
        const standing = ledger.standings.ofMember(entry);
        const rttMs = connection?.rttMs ?? null;
        const lastSeenSeconds = Math.max(0, (clock.now() - seenAt) / 1000);
        const stillSeconds = present ? (clock.monotonic() - present.progressAt) / 1000 : lastSeenSeconds;
        const refusal = last && !counts(last.code) ? receiptMeanings[last.code] : null;
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
          // A node with engine `auto` knows its engine only after it has joined.
          engine: heartbeat?.engine ?? entry.engine,
          rttMs,
          lastSeenSeconds,
          stillSeconds,
          health: peerHealth({
            state,
            hold: held && holdMeanings[held.reason],
            standing,
            stillSeconds,
            lastSeenSeconds,
            rttMs,
            refusal,
          }),
          accepted,
          refused,
          score: this.#scores(context.job, entry.peer, 1)[0] ?? null,
          last: last && { round: last.round, code: last.code, detail: last.detail },
          standing,
          bytesSent: heartbeat?.bytesSent ?? 0,
          bytesReceived: heartbeat?.bytesReceived ?? 0,
        };
      }),
    );
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

  /** Returns a peer's receipts and scores from all jobs, newest first. */
  receipts(peer: string): PeerReceipts {
    const { store } = this.#deps;
    const receipts = this.#coordinator.jobs().flatMap(({ context }) =>
      store.updates.receipts(context.job, peer, SHOWN_RECEIPTS).map(({ round, code, detail, issuedAt }) => ({
        job: context.job,
        round,
        code,
        detail,
        meaning: receiptMeanings[code],
        at: issuedAt,
      })),
    );
    const scores = this.#coordinator
      .jobs()
      .flatMap(({ context }) => this.#scores(context.job, peer, SHOWN_SCORES));
    const trust = this.#coordinator.jobs().map((run) => this.#trust(run, peer));
    const persons = [{ peer, person: peer }, ...trust.map(({ who }) => who)];
    const bans = new Map(persons.flatMap((who) => store.bans.of(who)).map((ban) => [ban.id, ban]));
    return {
      peer,
      receipts: receipts.sort((a, b) => b.at - a.at),
      scores,
      standings: trust.flatMap(({ standing }) => (standing === null ? [] : [standing])),
      strikes: trust.flatMap(({ strikes }) => strikes).sort((a, b) => b.at - a.at),
      bans: [...bans.values()].sort((a, b) => b.id - a.id).map(banView),
    };
  }

  /** Returns the newest bans in force, newest first. */
  bans(): BanView[] {
    const { store, clock } = this.#deps;
    return store.bans.inForce(clock.now(), SHOWN_BANS).map(banView);
  }

  /** Returns a peer's strikes and standing in a job. The standing is null if the job does not know the peer. */
  #trust({ context, ledger, members }: JobRun, peer: string) {
    const { job, stored } = context;
    const { store } = this.#deps;
    const who = ledger.who(peer);
    const own = store.strikes.of(job, who);
    const { standing, untilRound, ban } = ledger.standings.of(who);
    const isKnown = members.has(peer) || own.length > 0 || ban !== null;
    const counted = own.filter(({ pardonedAt }) => pardonedAt === null).length;
    const strikes = own.map(({ person: _, ...strike }): PeerStrike => {
      const receipt = strike.digest && store.updates.receipt(job, strike.peer, strike.digest);
      return { job, ...strike, meaning: MISDEEDS[strike.kind], receipt: receipt ? receipt.code : null };
    });
    const place = { job, jobName: stored.name, person: who.person };
    return { who, strikes, standing: isKnown ? { ...place, standing, untilRound, strikes: counted } : null };
  }

  /** Returns the checkpoints of a job, newest first. */
  checkpoints(run: JobRun): CheckpointView[] {
    const stored = this.#deps.store.rounds.checkpoints(run.context.job);
    const tasks = checkpointTasks(run.context.job, this.#deps.store);
    return stored.map((checkpoint) => this.#checkpoint(run, checkpoint, tasks)).reverse();
  }

  checkpoint(run: JobRun, stored: StoredCheckpoint): CheckpointView {
    return this.#checkpoint(run, stored, checkpointTasks(run.context.job, this.#deps.store));
  }

  #checkpoint(run: JobRun, stored: StoredCheckpoint, tasks: EvaluatedCheckpoints): CheckpointView {
    const { round, digest, envelope, weights, restores } = stored;
    const { message } = verifyMessage('checkpoint', envelope);
    const path = this.#deps.folders.path(run.context.stored.name, round);
    const { parent } = message;
    return {
      round,
      digest,
      parent,
      restores,
      path,
      isBest: round === tasks.best,
      tasks: tasks.byRound.get(round) ?? null,
      kept: weights === 'held',
      checkpoint: message,
    };
  }

  /** Returns the seconds until the open round's deadline; null if no round is open. */
  #secondsLeft(state: JobState): number | null {
    if (!state.current || !isOpen(state)) return null;
    return Math.max(0, (deadlineOf(state.current) - this.#deps.clock.monotonic()) / 1000);
  }
}

function banView({ id: _, ...ban }: StoredBan): BanView {
  return ban;
}
