import { jobHealth } from '../../monitor/job-health.ts';
import type { OtherVersion } from '../../net/network.ts';
import type { CoordinatorStatus, JobDetail, JobSummary } from '../../protocol/api/coordinator.ts';
import type { SamplesView } from '../../protocol/api/job-parts.ts';
import { bestCheckpoint } from '../best-checkpoint.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { inviteTo } from '../jobs/invite.ts';
import { awaitedBy, queuedReason } from '../queue.ts';
import { deadlineOf } from '../round/close.ts';
import { isOpen, needsOperator, pausedItself, pendingOrders, reasonText } from '../round/job-phase.ts';
import type { JobState } from '../round/state.ts';
import { CheckpointViews } from './checkpoint-views.ts';
import { jobTasks, settingsChanges } from './job-views.ts';
import { waitingNodes } from './waiting-view.ts';

export interface ViewOptions {
  readonly version: string;
  readonly startedAt: number;
}

/** Builds the answers of the control API about the coordinator and its jobs. */
export class Views {
  readonly checkpoints: CheckpointViews;
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
    this.checkpoints = new CheckpointViews(deps);
  }

  status(): CoordinatorStatus {
    const { network, clock } = this.#deps;
    return {
      schemaVersion: 1,
      role: 'coordinator',
      peerId: network.signer.peerId,
      addresses: network.addresses(),
      reach: network.reachability(),
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
    const isHeld = run.driver.isHeld && state.phase !== 'paused' && state.phase !== 'queued';
    const ending = context.isStopping() ? '. The job stops after this' : '';
    const heldReason = context.isBehind()
      ? `the coordinator was restored from an old backup, and fetches the newer records from its nodes${ending}`
      : `waits until its nodes have reported the newest head that they know${ending}`;
    const ownReason = isHeld ? heldReason : reasonText(state);
    const reason = awaited === null ? ownReason : queuedReason(awaited);
    const history = this.#history(context.job);
    const lowestLoss = this.#deps.store.rounds.lowestLoss(context.job)?.heldOutLoss ?? null;
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
      lowestLoss,
      tokensPerSecond: metrics.seconds > 0 ? metrics.tokens / metrics.seconds : 0,
      reason,
      isHeld,
      pendingOrders: pendingOrders(state),
      priority: context.place.priority,
      newestChange: settingsChanges(run).at(-1) ?? null,
      tasks: jobTasks(context.job, this.#deps.store),
      after: awaited && { job: awaited.context.job, name: awaited.context.stored.name },
      waitingNodes: waitingNodes(run, this.#othersFor(run)),
      needsOperator: needsOperator(state),
      health: jobHealth({
        ...state,
        rounds: settings.newest.count,
        roundsDone: ordinal,
        reason,
        mergeSeconds: driver.mergeMs / 1000,
        lateSeconds: driver.overdueMs / 1000,
        pausedItself: pausedItself(state),
        heldOutLoss: metrics.heldOutLoss,
        lowestLoss,
      }),
      invite:
        members.invites.sharedRevokedAt === null
          ? inviteTo({ job: context.job, token: members.invites.sharedToken }, this.#deps.network)
          : null,
    };
  }

  /** Returns the connected nodes of another version that are members of this job, or of no job. */
  #othersFor({ members }: JobRun): OtherVersion[] {
    const runs = this.#coordinator.jobs();
    return this.#deps.network
      .otherVersions()
      .filter(({ peer }) => members.list.has(peer) || !runs.some((run) => run.members.list.has(peer)));
  }

  #history(job: string): Pick<JobSummary, 'best' | 'rolledBack'> {
    const { store } = this.#deps;
    const { rounds } = store;
    const best = bestCheckpoint(job, store);
    const [rollBack = null] = rounds.rollBacks(job, 1);
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

  /** @param round round of a checkpoint; null for the newest samples */
  samples({ context: { job } }: JobRun, round: number | null): SamplesView {
    const { samples } = this.#deps.store;
    return {
      hasPrompts: samples.of(job) !== null,
      rounds: samples.rounds(job),
      result: round === null ? samples.newest(job) : samples.result(job, round),
    };
  }

  /** Returns the seconds until the open round's deadline; null if no round is open. */
  #secondsLeft(state: JobState): number | null {
    if (!state.current || !isOpen(state)) return null;
    return Math.max(0, (deadlineOf(state.current) - this.#deps.clock.monotonic()) / 1000);
  }
}
