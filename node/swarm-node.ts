import pLimit from 'p-limit';
import { withDeadline } from '../common/deadline.ts';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import { BlobCollector } from '../storage/blob-collector.ts';
import { mayFetch } from './blob-access.ts';
import type { OwnStanding, PhaseContext, SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import { nodeError } from './errors.ts';
import { HeadGossip } from './head-gossip.ts';
import { type HeartbeatLoop, startHeartbeat } from './heartbeat.ts';
import { JobKeys } from './job-keys.ts';
import { JobWorker } from './job-worker.ts';
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
import { openedRound } from './machine/work.ts';
import { MachineRunner } from './machine-runner.ts';
import { type JoinedJob, join } from './phases/join.ts';
import { isShutOut, openJobs, request, requestHead, verifyReceipt } from './phases/requests.ts';
import { publishUpdate, settleUpdate } from './phases/updates.ts';
import { errorFields, reasonOf, Tasks } from './tasks.ts';
import { UpdateReceipts } from './update-receipts.ts';

/** State of a running node, from which its status and its health checks are made. */
export interface SwarmNodeView extends Pick<JobWorker, 'progress' | 'download'> {
  readonly state: NodeState;
  /** null before the coordinator has admitted the node. */
  readonly standing: OwnStanding | null;
  /** The coordinator's final refusal, for example because it has banned this node; null if there is none. */
  readonly shutOut: SwarmError | null;
  /** null before the node has joined a job. */
  readonly context: PhaseContext | null;
}

const NO_PROGRESS = { step: 0, steps: 0, tokensPerSecond: 0 };

/**
 * Runs a node. Turns heads, receipts and the results of its work into events of the state machine, and carries out the
 * effects that the state machine returns. Clock, disk and randomness are dependencies, so that the simulation can
 * replace them.
 */
export class SwarmNode {
  readonly #options: SwarmNodeOptions;
  readonly #deps: SwarmNodeDeps;
  readonly #collector: BlobCollector;
  readonly #feedbackLock = pLimit(1);
  readonly #runner: MachineRunner;
  readonly #tasks: Tasks;
  readonly #receipts: UpdateReceipts;
  #worker: JobWorker | null = null;
  #heartbeat: HeartbeatLoop | null = null;
  #heads: HeadGossip | null = null;
  #cancelWatch = (): void => {};
  #leaveNetwork: (() => void)[] = [];
  #shutOut: SwarmError | null = null;
  #standing: OwnStanding | null = null;

  constructor(options: SwarmNodeOptions, deps: SwarmNodeDeps) {
    this.#options = options;
    this.#deps = { ...deps, onStanding: (standing) => this.#onStanding(standing) };
    this.#collector = new BlobCollector(deps);
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
    const { shutOut, standing } = { shutOut: this.#shutOut, standing: this.#standing };
    return { state: this.#runner.state, shutOut, standing, context, progress, download };
  }

  start(): void {
    const { network } = this.#deps;
    const { addresses } = this.#options;
    for (const address of addresses) network.addPersistentPeer(address);
    const isCoordinator = (peer: string): boolean =>
      addresses.some((address) => address.endsWith(`/p2p/${peer}`));
    network.serveBlobs((peer, digest, proof) => {
      const { store } = this.#deps;
      const { job = null, isOpen = false, keys } = this.#worker?.context ?? {};
      const mayRead = isOpen || (keys?.admits(peer, proof) ?? false);
      return mayFetch(digest, { store, isCoordinator: isCoordinator(peer), job, mayRead });
    });
    this.#leaveNetwork = [
      network.handle('notify', async (peer, { receipt }) => {
        const context = this.#worker?.context;
        // A refusal would show which job this node is in. Other peers therefore get the same empty answer as the
        // coordinator.
        if (peer === context?.coordinator)
          this.#receipts.take(context, verifyReceipt(receipt, context), null);
        return {};
      }),
      network.handle('measure', async (peer, request, { signal }) => {
        const { coordinator, job } = this.#worker?.context ?? {};
        if (peer !== coordinator || request.job !== job) {
          throw nodeError('NOT_SCORING', 'this node computes no scores for the caller');
        }
        return { figures: await this.#worker!.measure(request, signal) };
      }),
      network.onPeer(({ type, peer }) => {
        if (type === 'connect' && isCoordinator(peer)) this.#runner.dispatch({ type: 'connected' });
      }),
    ];
    // Deletes blobs that an earlier process wrote, but did not record before it ended.
    this.#tasks.run('sweep', () => this.#collector.sweep());
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
    for (const leave of this.#leaveNetwork) leave();
  }

  #onChange(state: NodeState, before: NodeState): void {
    if (state.phase !== before.phase) this.#heartbeat?.beatSoon();
    if (state.phase !== before.phase || state.reason !== before.reason) {
      const { phase, reason, head } = state;
      this.#deps.log.debug({ phase, reason, round: head?.round ?? 0 }, 'state-changed');
    }
    if (isDone(state) && !isDone(before)) {
      const { job } = state.head!;
      this.#tasks.run('mark-job-over', async () => this.#deps.store.jobFiles.markOver(job));
    }
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
      log.warn(errorFields(error), `${effect.type}-failed`);
      if ('work' in effect) meter.roundLost(isSwarmError(error) ? error.code : 'unknown');
      event = failureEvent(effect, reasonOf(error), random());
    }
    // The database already contains a built update. It must be sent even if the effect was aborted in the meantime.
    if (!signal.aborted || event.type === 'update-built') this.#runner.dispatch(event);
  }

  #resultOf(effect: MainEffect, signal: AbortSignal): Promise<NodeEvent> {
    switch (effect.type) {
      case 'join':
        return this.#join(signal);
      case 'sync':
        return this.#worker!.sync(effect.head, signal);
      case 'train':
        return this.#worker!.train(effect.work, signal);
      case 'build-update':
        return this.#worker!.buildUpdate(effect.work, signal);
    }
  }

  async #join(signal: AbortSignal): Promise<NodeEvent> {
    const joined = await join(this.#options, this.#deps, signal);
    signal.throwIfAborted();
    return this.#enter(joined).prepare(joined, signal);
  }

  /**
   * Returns the worker of a joined job. For a new job, also starts to follow its heads and to send heartbeats: fetching
   * the base can take long, and the coordinator must see the node meanwhile.
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
    const { name, agent } = options;
    const local = { collector: this.#collector, feedbackLock: this.#feedbackLock };
    const keys = new JobKeys({ job, self: deps.network.signer.peerId }, sent);
    const facts = { job, coordinator, manifest, keys, isOpen, role };
    const worker = new JobWorker({ options, deps, ...local, ...facts });
    this.#worker = worker;
    this.#heads = new HeadGossip({
      context: worker.context,
      newest: () => this.#runner.state.head,
      onHead: (head) => this.#runner.dispatch({ type: 'head', head }),
      renewKeys: () => this.#poll(false),
      tasks: this.#tasks,
    });
    this.#heartbeat = startHeartbeat(deps, keys, () => {
      const { phase, head } = this.#runner.state;
      return { job, name, agent, state: phase, round: openedRound(head), ...worker.progress };
    });
    return worker;
  }

  #leaveJob(): void {
    this.#heads?.stop();
    this.#heartbeat?.stop();
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
      this.#leaveJob();
      this.#runner.dispatch({ type: 'shut-out', reason: reasonOf(error) });
      this.#deps.onShutOut?.(error);
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
