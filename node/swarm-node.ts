import pLimit from 'p-limit';
import { withDeadline } from '../common/deadline.ts';
import { isNewer } from '../protocol/head-order.ts';
import { BlobCollector } from '../storage/blob-collector.ts';
import type {
  Download,
  HeldAdapter,
  PhaseContext,
  ReadyContext,
  SwarmNodeDeps,
  SwarmNodeOptions,
} from './context.ts';
import { initialState, isDone, type NodeEffect, type NodeEvent, type NodeState } from './machine/state.ts';
import { JOB_WATCH_MS } from './machine/times.ts';
import { openedRound, type Work } from './machine/work.ts';
import { MachineRunner } from './machine-runner.ts';
import { askHead } from './phases/await.ts';
import { ask, contact, type Invitation, openJobs, prepare, rejoin } from './phases/join.ts';
import { makeUpdate, publish, settle } from './phases/publish.ts';
import { Receipts } from './phases/receipts.ts';
import { sync } from './phases/sync.ts';
import { train } from './phases/train.ts';
import { type Presence, takePart } from './presence.ts';
import { reasonOf, Tasks } from './tasks.ts';
import type { TrainedRound } from './trainer.ts';

/** What a contributor shows of itself. */
export interface SwarmNodeView {
  readonly state: NodeState;
  readonly context: PhaseContext | null;
  /** Of the round being trained, or the last one. */
  readonly progress: { step: number; steps: number; tokensPerSecond: number };
  readonly download: Download | null;
}

/**
 * A node's part in the swarm: heads, receipts and results become events of the state machine, its effects become
 * work. No clock, disk or randomness of its own: all come as dependencies.
 */
export class SwarmNode {
  readonly #options: SwarmNodeOptions;
  readonly #deps: SwarmNodeDeps;
  readonly #collector: BlobCollector;
  readonly #feedbackLock = pLimit(1);
  readonly #runner: MachineRunner;
  readonly #tasks: Tasks;
  readonly #receipts: Receipts;
  #context: PhaseContext | null = null;
  #ready: ReadyContext | null = null;
  #held: HeldAdapter | null = null;
  #trained: TrainedRound | null = null;
  #progress = { step: 0, steps: 0, tokensPerSecond: 0 };
  #download: Download | null = null;
  #cancelWatch = (): void => {};
  #presence: Presence | null = null;
  #leaveNetwork: (() => void)[] = [];

  constructor(options: SwarmNodeOptions, deps: SwarmNodeDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#collector = new BlobCollector(deps);
    this.#tasks = new Tasks({}, deps);
    this.#runner = new MachineRunner(
      {
        initial: initialState(deps.network.signer.peerId),
        perform: (effect) => this.#perform(effect),
        onChange: (state, before) => this.#onChange(state, before),
      },
      deps,
    );
    const { life } = this.#tasks;
    this.#receipts = new Receipts({}, { deps, life, dispatch: (event) => this.#runner.dispatch(event) });
  }

  view(): SwarmNodeView {
    return {
      state: this.#runner.state,
      context: this.#context,
      progress: this.#progress,
      download: this.#download,
    };
  }

  start(): void {
    const { network } = this.#deps;
    const { addresses } = this.#options;
    for (const address of addresses) network.addPersistentPeer(address);
    this.#leaveNetwork = [
      network.handle('notify', async (_peer, { receipt }) => {
        if (this.#context) this.#receipts.notice(this.#context, receipt);
        return {};
      }),
      network.onPeer(({ type, peer }) => {
        const known = addresses.some((address) => address.endsWith(`/p2p/${peer}`));
        if (type === 'connect' && known) this.#runner.dispatch({ type: 'connected' });
      }),
    ];
    // What an earlier process left half written.
    this.#tasks.beside('sweep', () => this.#collector.sweep());
    this.#runner.dispatch({ type: 'start' });
  }

  /** Gives the round up, delivers what is undelivered, says goodbye; ends within the deadline whatever the network does. */
  async stop({ deadlineMs }: { deadlineMs: number }): Promise<void> {
    const { clock, log } = this.#deps;
    this.#runner.dispatch({ type: 'stop' });
    await withDeadline({ clock, ms: deadlineMs, what: 'draining' }, () => this.#tasks.drained()).catch(
      (error: unknown) => log.warn({ reason: reasonOf(error) }, 'drain-cut-short'),
    );
    this.#runner.end();
    this.#tasks.end();
    this.#cancelWatch();
    this.#presence?.leave();
    for (const leave of this.#leaveNetwork) leave();
  }

  #onChange(state: NodeState, before: NodeState): void {
    if (state.phase !== before.phase) this.#presence?.hasten();
    if (state.phase !== before.phase || state.reason !== before.reason) {
      const { phase, reason, head } = state;
      this.#deps.log.debug({ phase, reason, round: head?.round ?? 0 }, 'node-state');
    }
    if (isDone(state) && !isDone(before)) {
      const { job } = state.head!;
      this.#tasks.beside('job-over', async () => this.#deps.store.jobFiles.over(job));
    }
    this.#cancelWatch();
    if (this.#options.job === null && isDone(state)) {
      const watch = (): void => this.#tasks.beside('job-watch', () => this.#watchJobs());
      this.#cancelWatch = this.#deps.clock.after(JOB_WATCH_MS, watch);
    }
  }

  #perform(effect: NodeEffect): void {
    const tasks = this.#tasks;
    switch (effect.type) {
      case 'join':
        this.#run(
          (signal) => this.#join(signal),
          (reason, jitter) => ({ type: 'join-failed', reason, jitter }),
        );
        break;
      case 'sync': {
        const adapter = effect.head.checkpoint.adapter.digest;
        this.#run(
          async (signal) => {
            const held = await sync(this.#ready!, this.#held, effect.head, signal);
            if (!signal.aborted) this.#held = held;
            return { type: 'synced', adapter };
          },
          (reason, jitter) => ({ type: 'sync-failed', adapter, reason, jitter }),
        );
        break;
      }
      case 'train':
      case 'seal': {
        const { type, work } = effect;
        this.#run(
          (signal) => (type === 'train' ? this.#train(work, signal) : this.#seal(work, signal)),
          (reason) => ({ type: `${type}-failed`, work, reason }),
        );
        break;
      }
      case 'abort':
        this.#trained = null;
        tasks.abortMain();
        break;
      case 'publish':
        tasks.beside('publish', () => publish(this.#ready!, effect.round));
        break;
      case 'ask':
      case 'submit':
        tasks.beside(effect.type, () => this.#receipts.inquire(this.#context!, effect));
        break;
      case 'settle':
        tasks.beside('settle', () => settle(this.#ready!, effect));
        break;
      case 'poll':
        tasks.beside('poll', () => this.#poll(effect.again));
        break;
      case 'leave':
        tasks.beside('leave', () => this.#leave());
        break;
    }
  }

  #run(
    work: (signal: AbortSignal) => Promise<NodeEvent>,
    failed: (reason: string, jitter: number) => NodeEvent,
  ): void {
    this.#tasks.main(
      work,
      (event, aborted) => {
        // A stored update is a fact, whatever has happened since.
        if (!aborted || event.type === 'sealed') this.#runner.dispatch(event);
      },
      (reason) => this.#runner.dispatch(failed(reason, this.#deps.random())),
    );
  }

  async #join(signal: AbortSignal): Promise<NodeEvent> {
    const invitation = await contact(this.#options, this.#deps, signal);
    signal.throwIfAborted();
    const context = this.#enter(invitation);
    const { engine } = this.#deps.trainer;
    this.#ready = await prepare(context, invitation.head, signal);
    // For people who watch: which engine it is may follow from the base.
    if (this.#deps.trainer.engine !== engine) await rejoin(this.#options, this.#deps, context, signal);
    const remembered = this.#deps.store.remembered(context.job);
    const { lastRound, pending } = remembered;
    this.#deps.log.info({ name: context.manifest.name, lastRound, pending: pending.length }, 'joined');
    return { type: 'joined', head: invitation.head, remembered };
  }

  /** From here on the node takes part in the job, also while it still fetches the base. */
  #enter({ job, coordinator, manifest }: Invitation): PhaseContext {
    if (this.#context?.job === job && this.#context.coordinator === coordinator) return this.#context;
    this.#presence?.leave();
    const context: PhaseContext = {
      options: this.#options,
      deps: this.#deps,
      collector: this.#collector,
      feedbackLock: this.#feedbackLock,
      job,
      coordinator,
      manifest,
      onDownload: (download) => {
        this.#download = download;
      },
    };
    this.#context = context;
    this.#held = null;
    const { tokensPerSecond } = this.#deps.store.job(job);
    this.#progress = { step: 0, steps: 0, tokensPerSecond };
    this.#presence = takePart(context, {
      pulse: () => {
        const { phase, head } = this.#runner.state;
        return { state: phase, round: openedRound(head), ...this.#progress };
      },
      onHead: (head) => {
        const newer = isNewer(head, this.#runner.state.head);
        this.#runner.dispatch({ type: 'head', head });
        return newer;
      },
    });
    return context;
  }

  async #train(work: Work, signal: AbortSignal): Promise<NodeEvent> {
    this.#progress = { ...this.#progress, step: 0, steps: work.steps };
    const trained = await train(this.#ready!, work, this.#held!, {
      signal,
      onProgress: ({ step, steps, tokensPerSecond }) => {
        if (!signal.aborted) this.#progress = { step, steps, tokensPerSecond };
      },
    });
    this.#trained = trained;
    const { steps, tokens, seconds, lossFirst, lossLast } = trained.result;
    this.#deps.log.info({ round: work.round, steps, tokens, seconds, lossFirst, lossLast }, 'round-trained');
    return { type: 'trained', work };
  }

  async #seal(work: Work, signal: AbortSignal): Promise<NodeEvent> {
    const { log, store, observer } = this.#deps;
    const trained = this.#trained!;
    const update = await makeUpdate(this.#ready!, work, this.#held!, trained, signal);
    this.#trained = null;
    const bytes = store.update(this.#ready!.job, work.round)?.bytes ?? 0;
    log.info({ round: work.round, update, bytes }, 'update-made');
    observer.trained({ ...trained.result, updateBytes: bytes });
    return { type: 'sealed', work, update };
  }

  async #poll(again: boolean): Promise<void> {
    const context = this.#context!;
    const head = await askHead(context, { known: this.#runner.state.head, again }, this.#tasks.life);
    if (head && context === this.#context) this.#runner.dispatch({ type: 'head', head });
  }

  async #leave(): Promise<void> {
    // What is being delivered arrives before the goodbye.
    await this.#tasks.settled();
    if (!this.#context) return;
    const { coordinator, job } = this.#context;
    await ask(this.#deps, coordinator, 'leave', { job, reason: 'stopped' }, this.#tasks.life);
    this.#deps.log.info({ job }, 'left');
  }

  /** The job is over and any job will do: turns to the coordinator's next one. */
  async #watchJobs(): Promise<void> {
    const { job, coordinator } = this.#context!;
    const open = await openJobs(this.#deps, coordinator, this.#tasks.life).catch(() => []);
    const { state } = this.#runner;
    if (!isDone(state)) return;
    if (open.some((other) => other !== job)) this.#runner.dispatch({ type: 'start' });
    else this.#onChange(state, state);
  }
}
