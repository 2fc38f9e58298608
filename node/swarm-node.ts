import pLimit from 'p-limit';
import { withDeadline } from '../common/deadline.ts';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import type { BlobProof } from '../protocol/job-key.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { RpcRequest } from '../protocol/rpc.ts';
import { HeadSettings } from './contact/head-settings.ts';
import { JobContact } from './contact/job-contact.ts';
import { JobKeys } from './contact/job-keys.ts';
import { isShutOut, openJobs, request, requestHead, verifyReceipt } from './contact/requests.ts';
import { UpdateReceipts } from './contact/update-receipts.ts';
import type { OwnStanding, PhaseContext, SiblingJob, SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import { type Hold, holdOf } from './limits/hold.ts';
import type { DrainedWork } from './limits/node-control.ts';
import {
  failureEvent,
  initialState,
  isDone,
  type MainEffect,
  type NodeEffect,
  type NodeEvent,
  type NodeState,
} from './machine/state.ts';
import { JOB_WATCH_MS } from './machine/times.ts';
import { MachineRunner } from './machine-runner.ts';
import { JobWorker } from './phases/job-worker.ts';
import { type JoinedJob, join } from './phases/join.ts';
import { publishUpdate, settleUpdate } from './phases/updates.ts';
import type { JobClaim } from './store/job-files.ts';
import { errorFields, reasonOf, Tasks } from './tasks.ts';

/** State of a running node, from which its status and its health checks are made. */
export interface SwarmNodeView extends Pick<JobWorker, 'progress' | 'download'> {
  readonly state: NodeState;
  /** How far the coordinator trusts this node; null before the coordinator has admitted the node. */
  readonly standing: OwnStanding | null;
  /** The coordinator's final refusal, for example because it has banned this node; null if there is none. */
  readonly shutOut: SwarmError | null;
  /** Context of the job; null before the node has joined a job. */
  readonly context: PhaseContext | null;
  /** Name of the job that has the trainer while this job waits for it; null if this job does not wait. */
  readonly busyWith: string | null;
  readonly weight: number;
  /** Reason why the node cannot join until its owner changes something; null if it can join. */
  readonly hold: Hold | null;
  /** Time for which this job has had the trainer, in seconds. */
  readonly trainerSeconds: number;
}

const NO_PROGRESS = { step: 0, steps: 0, tokensPerSecond: 0 };

/**
 * Runs a node in the jobs of one invite, one job at a time. Turns heads, receipts and the results of its work into
 * events of the state machine, and carries out the effects that the state machine returns. Clock, disk and randomness are
 * dependencies, so that the simulation can replace them.
 */
export class SwarmNode implements SiblingJob {
  readonly #options: SwarmNodeOptions;
  readonly #deps: SwarmNodeDeps;
  readonly #feedbackLock = pLimit(1);
  readonly #runner: MachineRunner;
  readonly #tasks: Tasks;
  readonly #receipts: UpdateReceipts;
  /** The job that the node is joining; null at other times. */
  #joining: JobClaim | null = null;
  #worker: JobWorker | null = null;
  #contact: JobContact | null = null;
  #cancelWatch = (): void => {};
  #stopListening = (): void => {};
  #stopWatchingPauses = (): void => {};
  #shutOut: SwarmError | null = null;
  #standing: OwnStanding | null = null;
  #hold: Hold | null = null;

  constructor(options: SwarmNodeOptions, deps: SwarmNodeDeps) {
    this.#options = options;
    this.#deps = { ...deps, onStanding: (standing) => this.#onStanding(standing) };
    this.#tasks = new Tasks(deps);
    this.#runner = new MachineRunner(
      {
        initial: initialState(deps.network.signer.peerId),
        perform: (effect) => this.#perform(effect),
        onChange: (state, before) => this.#onChange(state, before),
      },
      deps,
    );
    this.#receipts = new UpdateReceipts({
      dispatch: (event) => this.#runner.dispatch(event),
      life: this.#tasks.life,
      // A strike may have changed the node's standing. The node joins again, because the answer contains the standing.
      onStrike: () => this.#tasks.run('poll', () => this.#poll(true)),
      endsWith: (error) => this.#endsWith(error),
    });
  }

  view(): SwarmNodeView {
    const { context = null, progress = NO_PROGRESS, download = null } = this.#worker ?? {};
    const { busyWith, weight, usedSeconds } = this.#deps.trainer;
    return {
      state: this.#runner.state,
      shutOut: this.#shutOut,
      standing: this.#standing,
      context,
      progress,
      download,
      busyWith,
      hold: this.#currentHold(),
      weight,
      trainerSeconds: usedSeconds,
    };
  }

  /** Addresses of the coordinator. */
  get addresses(): readonly string[] {
    return this.#options.addresses;
  }

  get job(): string | null {
    if (this.#shutOut !== null) return null;
    return this.#worker?.context.job ?? this.#options.job;
  }

  get fittingManifest(): Manifest | null {
    return this.#worker?.fits && !this.isDone ? this.#worker.context.manifest : null;
  }

  claims({ coordinator, job }: JobClaim): boolean {
    if (this.#shutOut !== null) return false;
    return [this.#joining, this.#worker?.context].some(
      (claim) => claim?.coordinator === coordinator && claim.job === job,
    );
  }

  names({ coordinator, job }: JobClaim): boolean {
    return this.#shutOut === null && this.#options.job === job && this.isCoordinator(coordinator);
  }

  /** Whether the job needs nothing more from this node. */
  get isDone(): boolean {
    return this.#shutOut !== null || isDone(this.#runner.state);
  }

  /** The work that a drain waits for. */
  get work(): DrainedWork {
    const { phase, head, pending } = this.#runner.state;
    const isTraining = phase === 'training' && this.#deps.trainer.hasTurn;
    return {
      isTraining: isTraining || (this.#worker?.hasResult ?? false),
      awaitsReceipt: pending.some(({ round, code }) => code === null && round === head?.round),
    };
  }

  /** Peer id of the job's coordinator; null before the node has joined the job. */
  get coordinator(): string | null {
    return this.#worker?.context.coordinator ?? null;
  }

  /** Returns whether the invite has an address of this peer. */
  isCoordinator(peer: string): boolean {
    return this.#options.addresses.some((address) => address.endsWith(`/p2p/${peer}`));
  }

  /** Returns the digest of the job if a peer may read it; otherwise null. */
  readableJob(peer: string, proof: BlobProof | null): string | null {
    const context = this.#worker?.context;
    return context && (context.isOpen || context.keys.admits(peer, proof)) ? context.job : null;
  }

  /**
   * Takes a receipt that the coordinator sent without a request.
   * @throws SwarmError RECEIPT_MISMATCH, and errors of signatures
   */
  takeReceipt(receipt: Uint8Array): void {
    const context = this.#worker?.context;
    if (context) this.#receipts.take(context, verifyReceipt(receipt, context), null);
  }

  /** Computes figures of an update for the coordinator, as `JobWorker.measure` does. */
  measure(request: RpcRequest<'measure'>, signal: AbortSignal): Promise<number[]> {
    return this.#worker!.measure(request, signal);
  }

  start(): void {
    const { network, trainer, pauses } = this.#deps;
    for (const address of this.#options.addresses) network.addPersistentPeer(address);
    this.#stopListening = network.onPeer(({ type, peer }) => {
      if (type === 'connect' && this.isCoordinator(peer)) this.#runner.dispatch({ type: 'connected' });
    });
    trainer.onWait = () => this.#onWait();
    this.#stopWatchingPauses = pauses?.onChange(() => this.#contact?.beatSoon()) ?? this.#stopWatchingPauses;
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
    this.#cancelWatch();
    this.#leaveJob();
    this.#stopListening();
    this.#stopWatchingPauses();
  }

  /** Reports at once that the node waits for its trainer, or no longer waits. */
  #onWait(): void {
    const { trainer, log } = this.#deps;
    const { busyWith } = trainer;
    if (busyWith !== null) log.info({ busyWith }, 'trainer-busy');
    this.#contact?.beatSoon();
  }

  #onChange(state: NodeState, before: NodeState): void {
    if (state.phase !== before.phase) this.#contact?.beatSoon();
    if (state.phase !== before.phase || state.reason !== before.reason) {
      const { phase, reason, head } = state;
      this.#deps.log.debug({ phase, reason, round: head?.round ?? 0 }, 'state-changed');
    }
    if (isDone(state) && !isDone(before)) {
      const { job } = state.head!;
      this.#tasks.run('mark-job-over', async () => this.#deps.store.jobFiles.markOver(job));
      // An invite that names no job is also for the next job of the coordinator.
      if (this.#options.job !== null) this.#deps.knownJobs?.forget(this.#options);
    }
    // A state that stays done changes at every poll of the head. Such a change must not postpone the next check for a
    // new job.
    if (isDone(state) === isDone(before)) return;
    this.#cancelWatch();
    if (this.#options.job === null && isDone(state)) this.#watchJobsLater();
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
        this.#worker?.discardResult();
        tasks.abortMain();
        break;
      case 'publish':
        tasks.run('publish', () => publishUpdate(this.#worker!.ready, effect.round));
        break;
      case 'ask':
      case 'submit':
        tasks.run(effect.type, () => this.#receipts.ask(this.#worker!.context, effect));
        break;
      case 'settle':
        tasks.run('settle', () => settleUpdate(this.#worker!.ready, effect));
        break;
      case 'poll':
        tasks.run('poll', () =>
          this.#poll(effect.rejoin).catch((error: unknown) => {
            if (!this.#endsWith(error)) throw error;
          }),
        );
        break;
      case 'leave':
        tasks.run('leave', () => this.#leave());
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
      if (effect.type === 'join') this.#setHold(holdOf(error));
      log.warn(errorFields(error), `${effect.type}-failed`);
      if ('work' in effect) meter.roundLost(isSwarmError(error) ? error.code : 'unknown');
      event = failureEvent(effect, reasonOf(error), random());
    }
    // The database already contains a built update. It must be sent even if the effect was aborted in the meantime.
    if (event.type === 'joined') this.#setHold(null);
    if (!signal.aborted || event.type === 'update-built') this.#runner.dispatch(event);
  }

  #currentHold(): Hold | null {
    const pause = this.#deps.pauses?.current ?? null;
    // A pause ends by itself or at the owner's order, so the reason that needs a change comes first.
    return this.#hold ?? (pause && { reason: pause.reason, detail: '' });
  }

  #setHold(hold: Hold | null): void {
    const isNews = hold?.reason !== this.#hold?.reason;
    this.#hold = hold;
    if (isNews) this.#contact?.beatSoon();
  }

  #resultOf(effect: MainEffect, signal: AbortSignal): Promise<NodeEvent> {
    switch (effect.type) {
      case 'join':
        return this.#join(signal);
      case 'sync':
        return this.#worker!.sync(effect.head, signal);
      case 'train':
        return this.#worker!.train(effect.work, this.#dueInMs(), signal);
      case 'build-update':
        return this.#worker!.buildUpdate(effect.work, signal);
    }
  }

  /**
   * Returns the time in milliseconds in which the open round should be trained. Most rounds close at half of their
   * deadline, because the deadline is twice the time for which the coordinator waits for all nodes.
   */
  #dueInMs(): number {
    const { deadlineMs, issuedAt } = this.#runner.state.head!;
    const half = deadlineMs / 2;
    return Math.min(half, Math.max(0, issuedAt + half - this.#deps.clock.now()));
  }

  async #join(signal: AbortSignal): Promise<NodeEvent> {
    let own: JobClaim | null = null;
    let joined: JoinedJob;
    let worker: JobWorker;
    try {
      joined = await join(this.#options, this.#deps, signal, (claim) => {
        own = this.#joining = claim;
      });
      signal.throwIfAborted();
      worker = this.#enter(joined);
    } finally {
      // An aborted attempt may end after the next attempt has begun.
      if (this.#joining === own) this.#joining = null;
    }
    this.#deps.knownJobs?.remember(this.#options, joined.manifest.name);
    if (joined.head !== null) await worker.context.headSettings.check(joined.head, signal);
    return worker.prepare(joined, signal);
  }

  /**
   * Returns the worker of a joined job. For a new job, also starts to follow its heads and to send heartbeats, because
   * fetching the base can take long and the coordinator must know meanwhile that the node is present.
   */
  #enter({ job, coordinator, manifest, isOpen, role, keys: sent }: JoinedJob): JobWorker {
    const current = this.#worker?.context;
    if (this.#worker && current?.job === job && current.coordinator === coordinator) {
      current.keys.learn(sent);
      return this.#worker;
    }
    this.#leaveJob();
    const options = this.#options;
    const deps = this.#deps;
    const local = { collector: deps.collector, feedbackLock: this.#feedbackLock };
    const keys = new JobKeys({ job, self: deps.network.signer.peerId }, sent);
    const headSettings = new HeadSettings(
      { job, coordinator },
      {
        fetch: async (record, signal) =>
          (await request(deps, coordinator, 'settings', { job, record }, signal)).settings,
      },
    );
    const facts = { job, coordinator, manifest, keys, headSettings, isOpen, role };
    const worker = new JobWorker({ options, deps, ...local, ...facts });
    this.#worker = worker;
    this.#contact = new JobContact({
      worker,
      runner: this.#runner,
      hold: () => this.#currentHold(),
      tasks: this.#tasks,
      renewKeys: () => this.#poll(false),
    });
    return worker;
  }

  #leaveJob(): void {
    this.#contact?.stop();
  }

  #onStanding(standing: OwnStanding): void {
    const before = this.#standing?.kind ?? 'good';
    this.#standing = standing;
    if (standing.kind !== before) this.#deps.log.warn({ ...standing }, 'standing-changed');
  }

  async #poll(rejoin: boolean): Promise<void> {
    const { context } = this.#worker!;
    const { head: known } = this.#runner.state;
    const head = await requestHead(context, { known, rejoin }, this.#tasks.life).catch((error: unknown) => {
      // The coordinator no longer counts this node as a member, for example because the job was full and another node
      // took the place. The node then joins again.
      const isForgotten = isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'NOT_ADMITTED';
      if (rejoin || !isForgotten) throw error;
      return requestHead(context, { known, rejoin: true }, this.#tasks.life);
    });
    if (head && context === this.#worker?.context) this.#runner.dispatch({ type: 'head', head });
  }

  /**
   * Returns whether an error is a final refusal by the coordinator. If so, the node leaves the job and stops working.
   */
  #endsWith(error: unknown): boolean {
    if (!isShutOut(error)) return false;
    if (this.#shutOut === null) {
      this.#shutOut = error;
      this.#deps.log.error({ ...errorFields(error), refusal: error.values.code }, 'shut-out');
      // A ban may end, and the invite then works again. After any other final refusal, it never does.
      if (error.values.code !== 'BANNED') this.#deps.knownJobs?.forget(this.#options);
      this.#leaveJob();
      this.#runner.dispatch({ type: 'shut-out', reason: reasonOf(error) });
      this.#deps.onShutOut();
    }
    return true;
  }

  async #leave(): Promise<void> {
    // Waits for the updates that are being submitted, so that they arrive before the node leaves.
    await this.#tasks.settled();
    if (!this.#worker) return;
    const { coordinator, job } = this.#worker.context;
    await request(this.#deps, coordinator, 'leave', { job, reason: 'stopped' }, this.#tasks.life);
    this.#deps.log.info({ job }, 'job-left');
  }

  #watchJobsLater(): void {
    const watch = (): void => this.#tasks.run('watch-jobs', () => this.#watchJobs());
    this.#cancelWatch = this.#deps.clock.after(JOB_WATCH_MS, watch);
  }

  /** Joins the coordinator's next job. If there is none yet, looks again later. */
  async #watchJobs(): Promise<void> {
    const { job, coordinator } = this.#worker!.context;
    const { open } = await openJobs(this.#options, this.#deps, coordinator, this.#tasks.life).catch(() => ({
      open: [],
    }));
    if (!isDone(this.#runner.state)) return;
    if (open.some((other) => other !== job)) this.#runner.dispatch({ type: 'start' });
    else this.#watchJobsLater();
  }
}
