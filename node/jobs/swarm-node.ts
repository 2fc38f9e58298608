import { isSwarmError, type SwarmError } from '../../common/errors.ts';
import { withDeadline } from '../../common/time/deadline.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { isShutOut, keptReceipt } from '../contact/requests.ts';
import { errorFields, reasonOf } from '../errors.ts';
import type { DrainedWork } from '../limits/node-control.ts';
import {
  failureEvent,
  initialState,
  isDone,
  type MainEffect,
  type NodeEffect,
  type NodeEvent,
  type NodeState,
} from '../machine/state.ts';
import { dueInMs } from '../machine/work.ts';
import type { SiblingJob } from '../phases/port.ts';
import { publishUpdate, settleUpdate } from '../phases/updates.ts';
import type { JobClaim } from '../store/job-files.ts';
import type { SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import { JobMembership } from './job-membership.ts';
import type { JobWorker } from './job-worker.ts';
import { MachineRunner } from './machine-runner.ts';
import type { SwarmNodeView } from './swarm-node-view.ts';
import { Tasks } from './tasks.ts';
import { UpdateReceipts } from './update-receipts.ts';

/** Refusals that can end later, so the node keeps its invite: a ban, or another process with its key. */
const ENDING_REFUSALS: readonly unknown[] = ['BANNED', 'DUPLICATE_IDENTITY'];
const NO_PROGRESS = { step: 0, steps: 0, tokensPerSecond: 0 };

/**
 * Runs a node in the jobs of one invite, one job at a time. Turns heads, receipts and the results of its work into
 * events of the state machine, and carries out the effects that the state machine returns. Clock, disk and randomness are
 * dependencies, so that the simulation can replace them.
 */
export class SwarmNode implements SiblingJob {
  /** Multiaddrs of the coordinator. */
  readonly addresses: readonly string[];
  readonly #options: SwarmNodeOptions;
  readonly #deps: SwarmNodeDeps;
  readonly membership: JobMembership;
  readonly #runner: MachineRunner;
  readonly #tasks: Tasks;
  readonly #receipts: UpdateReceipts;
  #stopListening = (): void => {};
  #stopWatchingPauses = (): void => {};
  #shutOut: SwarmError | null = null;

  constructor(options: SwarmNodeOptions, deps: SwarmNodeDeps) {
    this.addresses = options.addresses;
    this.#options = options;
    this.#deps = deps;
    this.#tasks = new Tasks(deps);
    this.#runner = new MachineRunner(
      {
        initial: initialState(deps.network.signer.peerId),
        perform: (effect) => this.#perform(effect),
        onChange: (state, before) => this.#onChange(state, before),
      },
      deps,
    );
    this.membership = new JobMembership(options, {
      node: this.#deps,
      runner: this.#runner,
      tasks: this.#tasks,
    });
    this.#receipts = new UpdateReceipts({
      dispatch: (event) => this.#runner.dispatch(event),
      life: this.#tasks.life,
      // A strike may have changed the node's standing. The node joins again, because the answer contains the standing.
      onStrike: () => this.#tasks.run('poll', () => this.membership.poll(true)),
      endsWith: (error) => this.#endsWith(error),
    });
  }

  view(): SwarmNodeView {
    const { context = null, progress = NO_PROGRESS, download = null } = this.membership.worker ?? {};
    const { busyWith, weight, usedSeconds } = this.#deps.trainer;
    return {
      state: this.#runner.state,
      shutOut: this.#shutOut,
      standing: this.membership.standing,
      context,
      jobName: context?.manifest.name ?? this.membership.knownName,
      progress,
      download,
      busyWith,
      hold: this.membership.hold,
      weight,
      trainerSeconds: usedSeconds,
      followsJobs: this.#options.job === null,
    };
  }

  get job(): string | null {
    if (this.#shutOut !== null) return null;
    return this.membership.worker?.context.job ?? this.#options.job;
  }

  get fittingManifest(): Manifest | null {
    return this.membership.worker?.fits && !this.isDone ? this.membership.worker.context.manifest : null;
  }

  claims(claim: JobClaim): boolean {
    return this.#shutOut === null && this.membership.claims(claim);
  }

  names(claim: JobClaim): boolean {
    return this.#shutOut === null && this.membership.names(claim);
  }

  get isDone(): boolean {
    return this.#shutOut !== null || isDone(this.#runner.state);
  }

  /** The work that a drain waits for. */
  get work(): DrainedWork {
    const { phase, head, pending } = this.#runner.state;
    const isTraining = phase === 'training' && this.#deps.trainer.hasTurn;
    return {
      isTraining: isTraining || (this.membership.worker?.hasResult ?? false),
      awaitsReceipt: pending.some(({ round, code }) => code === null && round === head?.round),
    };
  }

  /** Applies the owner's limits, which have changed: ends the work on a job that no longer fits, or tries again at once. */
  checkLimits(): void {
    if (this.isDone) return;
    if (this.membership.worker?.noLongerFits()) {
      this.#runner.dispatch({ type: 'prepare-again', reason: 'the owner has lowered a limit' });
    } else {
      this.#runner.dispatch({ type: 'limits-changed' });
    }
  }

  /** Peer id of the job's coordinator; null before the node has joined the job. */
  get coordinator(): string | null {
    return this.membership.worker?.context.coordinator ?? null;
  }

  /**
   * Takes a receipt that the coordinator sent without a request.
   * @throws SwarmError RECEIPT_MISMATCH, and errors of signatures
   */
  takeReceipt(receipt: Uint8Array): void {
    const context = this.membership.worker?.context;
    if (context) this.#receipts.take(context, keptReceipt(receipt, context), null);
  }

  /** The node's work in its job. Read it only after the node has joined a job. */
  get worker(): JobWorker {
    return this.membership.worker!;
  }

  start(): void {
    const { network, trainer, pauses } = this.#deps;
    for (const address of this.#options.addresses) network.addPersistentPeer(address);
    this.#stopListening = network.onPeer(({ type, peer }) => {
      if (type === 'connect' && this.membership.isCoordinator(peer))
        this.#runner.dispatch({ type: 'connected' });
    });
    trainer.onWait = () => this.#onWait();
    this.#stopWatchingPauses = pauses?.onChange(() => this.membership.beatSoon()) ?? this.#stopWatchingPauses;
    this.#runner.dispatch({ type: 'start' });
  }

  /**
   * Abandons the round in progress, submits the updates that have no receipt, and leaves the job. Ends after
   * `deadlineMs` at the latest.
   */
  async stop({ deadlineMs }: { deadlineMs: number }): Promise<void> {
    const { clock, log } = this.#deps;
    this.#runner.dispatch({ type: 'stop' });
    await withDeadline({ clock, ms: deadlineMs, what: 'draining' }, () => this.#tasks.drained()).catch(
      (error: unknown) => log.warn({ reason: reasonOf(error) }, 'drain-cut-short'),
    );
    this.#runner.end();
    this.#tasks.end();
    this.membership.stopWatching();
    this.membership.endContact();
    this.#stopListening();
    this.#stopWatchingPauses();
  }

  /** Reports at once that the node waits for its trainer, or no longer waits. */
  #onWait(): void {
    const { busyWith } = this.#deps.trainer;
    if (busyWith !== null) this.#deps.log.info({ busyWith }, 'trainer-busy');
    this.membership.beatSoon();
  }

  #onChange(state: NodeState, before: NodeState): void {
    if (state.phase !== before.phase) this.membership.beatSoon();
    this.membership.noteHead(state, before);
    if (state.phase !== before.phase || state.reason !== before.reason) {
      const { phase, reason, head } = state;
      this.#deps.log.debug({ phase, reason, round: head?.round ?? 0 }, 'state-changed');
    }
    if (isDone(state) && !isDone(before)) {
      const { job } = state.head!;
      this.#tasks.run('mark-job-over', async () => this.#deps.store.jobFiles.markOver(job));
      // Keep an invite that names no job, because it is also for the next job of the coordinator.
      if (this.#options.job !== null) this.#deps.knownJobs?.forget(this.#options);
    }
    // While the job is done, each poll of the head still changes the state. These changes must not postpone the next
    // check for a new job.
    if (isDone(state) === isDone(before)) return;
    this.membership.stopWatching();
    if (this.#options.job === null && isDone(state)) this.membership.watchNextJob();
  }

  #perform(effect: NodeEffect): void {
    const tasks = this.#tasks;
    switch (effect.type) {
      case 'join':
      case 'sync':
      case 'train':
      case 'build-update':
        tasks.runMain((signal) => this.#runMain(effect, signal));
        break;
      case 'abort':
        this.membership.worker?.discardResult();
        tasks.abortMain();
        break;
      case 'publish':
        tasks.run('publish', () => publishUpdate(this.membership.worker!.ready, effect.round));
        break;
      case 'ask':
      case 'submit':
        tasks.run(effect.type, () => this.#receipts.ask(this.membership.worker!.context, effect));
        break;
      case 'settle':
        tasks.run('settle', () => settleUpdate(this.membership.worker!.ready, effect));
        break;
      case 'poll':
        tasks.run('poll', () =>
          this.membership.poll(effect.rejoin).catch((error: unknown) => {
            if (!this.#endsWith(error)) throw error;
          }),
        );
        break;
      case 'leave':
        tasks.run('leave', () => this.membership.leave());
        break;
    }
  }

  async #runMain(effect: MainEffect, signal: AbortSignal): Promise<void> {
    const { log, random, meter } = this.#deps;
    let event: NodeEvent;
    try {
      event = await this.#resultOf(effect, signal);
    } catch (error) {
      if (signal.aborted || this.#endsWith(error)) return;
      this.membership.noteFailure(effect.type, error);
      log.warn(errorFields(error), `${effect.type}-failed`);
      if ('work' in effect) meter.roundLost(isSwarmError(error) ? error.code : 'unknown');
      event = failureEvent(effect, reasonOf(error), random());
    }
    if (event.type === 'joined') this.membership.setHold(null);
    // The database already contains a built update, so send it even if the effect was aborted meanwhile.
    if (!signal.aborted || event.type === 'update-built') this.#runner.dispatch(event);
  }

  #resultOf(effect: MainEffect, signal: AbortSignal): Promise<NodeEvent> {
    switch (effect.type) {
      case 'join':
        return this.membership.join(signal);
      case 'sync':
        return this.membership.worker!.sync(effect.head, signal);
      case 'train':
        return this.membership.worker!.train(
          effect.work,
          dueInMs(this.#runner.state.head!, this.#deps.clock.now()),
          signal,
        );
      case 'build-update':
        return this.membership.worker!.buildUpdate(effect.work, signal);
    }
  }

  /**
   * Returns whether an error is a final refusal by the coordinator. If so, the node leaves the job and stops working.
   */
  #endsWith(error: unknown): boolean {
    if (!isShutOut(error)) return false;
    if (this.#shutOut === null) {
      this.#shutOut = error;
      this.#deps.log.error(errorFields(error), 'shut-out');
      // If the refusal cannot end, the invite never works again, so remove it from the home.
      if (!ENDING_REFUSALS.includes(error.values.code)) this.#deps.knownJobs?.forget(this.#options);
      this.membership.endContact();
      this.#runner.dispatch({ type: 'shut-out', reason: reasonOf(error) });
      this.#deps.onShutOut();
    }
    return true;
  }
}
