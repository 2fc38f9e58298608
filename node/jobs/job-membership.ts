import pLimit from 'p-limit';
import { isSwarmError } from '../../common/errors.ts';
import { type BlobProof, provesMembership } from '../../protocol/access/job-key.ts';
import type { Hold } from '../../protocol/api/node.ts';
import { JobKeys } from '../contact/job-keys.ts';
import { jobSettings } from '../contact/job-settings.ts';
import { keepCheckpoint } from '../contact/keep.ts';
import { askContribution } from '../contact/own-contribution.ts';
import type { OwnStanding } from '../contact/port.ts';
import { openJobs, request, requestHead, runOf } from '../contact/requests.ts';
import { DiskHold } from '../limits/disk-hold.ts';
import { holdOf } from '../limits/hold.ts';
import { isDone, type MainEffect, type NodeEvent, type NodeState } from '../machine/state.ts';
import { JOB_WATCH_MS } from '../machine/times.ts';
import { type JoinedJob, join } from '../phases/join.ts';
import type { JobClaim } from '../store/job-files.ts';
import type { SwarmNodeDeps, SwarmNodeOptions } from './context.ts';
import { JobContact } from './job-contact.ts';
import { JobWorker } from './job-worker.ts';
import type { MachineRunner } from './machine-runner.ts';
import { replaceBlob } from './replace-blob.ts';
import type { Tasks } from './tasks.ts';

/** Reason in the log for a round without an update of this node. */
const MISSED = 'the round ended before this node had finished it';

interface JobMembershipDeps {
  readonly node: SwarmNodeDeps;
  readonly runner: MachineRunner;
  readonly tasks: Tasks;
}

/**
 * The membership of a node in the jobs of one invite, one job at a time: joining, the contact with the coordinator, and
 * leaving.
 */
export class JobMembership {
  readonly #options: SwarmNodeOptions;
  readonly #deps: SwarmNodeDeps;
  readonly #runner: MachineRunner;
  readonly #tasks: Tasks;
  readonly #feedbackLock = pLimit(1);
  /** The job that the node is joining; null at other times. */
  #joining: JobClaim | null = null;
  #worker: JobWorker | null = null;
  #contact: JobContact | null = null;
  readonly #diskHold: DiskHold;
  #hold: Hold | null = null;
  /** Whether the coordinator did not admit the node in the last attempt to join, for example because it was away. */
  #isOutside = false;
  #standing: OwnStanding | null = null;
  #cancelWatch = (): void => {};
  /** Name of the job that the home keeps with the invite; null if there is none, or if this job has ended. */
  knownName: string | null;

  constructor(options: SwarmNodeOptions, { node, runner, tasks }: JobMembershipDeps) {
    this.#options = options;
    this.knownName = options.knownName ?? null;
    this.#deps = { ...node, onStanding: (standing) => this.#onStanding(standing) };
    this.#runner = runner;
    this.#tasks = tasks;
    const { clock, checkDisk = async () => {} } = node;
    this.#diskHold = new DiskHold({ clock, check: checkDisk, setHold: (hold) => this.setHold(hold) });
  }

  /** The node's work in the job that it joined last; null before it has joined a job. */
  get worker(): JobWorker | null {
    return this.#worker;
  }

  /** How far the coordinator trusts this node; null before the coordinator has admitted the node. */
  get standing(): OwnStanding | null {
    return this.#standing;
  }

  /** Reason why the node takes no work for now; null if it takes work. */
  get hold(): Hold | null {
    const pause = this.#deps.pauses?.current ?? null;
    // If the node has a hold and a pause, report the hold, because the owner must change something to end it.
    return this.#hold ?? (pause && { reason: pause.reason, detail: '' });
  }

  /** Sets the hold that a failed phase of the work causes. */
  noteFailure(phase: MainEffect['type'], error: unknown): void {
    if (isSwarmError(error, 'NO_OPEN_JOB') && error.values.ended !== null) this.knownName = null;
    if (phase === 'join') this.setHold(holdOf(error));
    else this.#diskHold.note(error);
  }

  setHold(hold: Hold | null): void {
    if (hold === null) this.#diskHold.stop();
    const isNews = hold?.reason !== this.#hold?.reason;
    this.#hold = hold;
    if (isNews) this.#contact?.heartbeat.beatSoon();
  }

  /** Returns whether the node has joined this job with the invite, or is joining the job. */
  claims({ coordinator, job }: JobClaim): boolean {
    return [this.#joining, this.#worker?.context].some(
      (claim) => claim?.coordinator === coordinator && claim.job === job,
    );
  }

  /** Returns whether the invite is for this job. */
  names({ coordinator, job }: JobClaim): boolean {
    return this.#options.job === job && this.isCoordinator(coordinator);
  }

  /** Returns whether the invite has an address of this peer. */
  isCoordinator(peer: string): boolean {
    return this.#options.addresses.some((address) => address.endsWith(`/p2p/${peer}`));
  }

  /**
   * Returns the digests of the jobs that a peer may read: open jobs, and jobs whose newest key the peer has. Until the
   * coordinator has answered, these are the jobs that the node joined with the invite before it was restarted. The
   * coordinator may be gone, and other members may then need the records and the adapter that this node holds.
   */
  readableJobs(peer: string, proof: BlobProof | null): string[] {
    const { network, store } = this.#deps;
    const context = this.#worker?.context;
    if (context) return context.isOpen || context.keys.admits(peer, proof) ? [context.job] : [];
    const ends = { requester: peer, holder: network.signer.peerId };
    return store.keptJobs.all
      .filter(
        ({ job, coordinator }) => [null, job].includes(this.#options.job) && this.isCoordinator(coordinator),
      )
      .filter(({ job, isOpen, key }) => isOpen || (proof !== null && provesMembership(proof, job, key, ends)))
      .map(({ job }) => job);
  }

  /** Sends the next heartbeat soon, because the state that it reports has changed. */
  beatSoon(): void {
    this.#contact?.heartbeat.beatSoon();
  }

  /** Joins a job of the invite and prepares it. Returns the event that reports this to the state machine. */
  async join(signal: AbortSignal): Promise<NodeEvent> {
    let own: JobClaim | null = null;
    let joined: JoinedJob;
    let worker: JobWorker;
    try {
      joined = await join(this.#options, this.#deps, signal, (claim) => {
        own = this.#joining = claim;
      });
      signal.throwIfAborted();
      worker = this.#enter(joined);
    } catch (error) {
      this.#isOutside = !signal.aborted;
      throw error;
    } finally {
      // Do not touch the field of a newer attempt, because an aborted attempt may end after the next attempt
      // has begun.
      if (this.#joining === own) this.#joining = null;
    }
    if (this.#isOutside) {
      // The node may fetch the base for hours, so the reason of the last attempt must not stay until then.
      this.#isOutside = false;
      this.setHold(null);
      this.#runner.dispatch({ type: 'admitted' });
    }
    this.#deps.knownJobs?.remember(this.#options, { job: joined.job, name: joined.manifest.name });
    if (joined.head !== null) await worker.context.headSettings.check(joined.head, signal);
    return worker.prepare(joined, signal);
  }

  /**
   * Returns the worker of a joined job. If the job is new, the worker follows its heads and sends heartbeats from now
   * on. Fetching the base can take long, and the coordinator must know meanwhile that the node is present.
   */
  #enter({ job, coordinator, manifest, isOpen, role, keys: sent }: JoinedJob): JobWorker {
    const current = this.#worker?.context;
    if (this.#worker && current?.job === job && current.coordinator === coordinator) {
      current.keys.learn(sent);
      return this.#worker;
    }
    this.endContact();
    const options = this.#options;
    // A node with several jobs trains rounds with the same numbers, so the entries of its log name the job.
    const deps = { ...this.#deps, log: this.#deps.log.child({ job }) };
    const local = { collector: deps.collector, feedbackLock: this.#feedbackLock };
    const keys = new JobKeys({ job, self: deps.network.signer.peerId }, sent);
    const headSettings = jobSettings(deps, { job, coordinator, manifest });
    const facts = { job, coordinator, manifest, keys, headSettings, isOpen, role };
    const worker = new JobWorker({ options, deps, ...local, ...facts });
    this.#worker = worker;
    this.#contact = new JobContact({
      worker,
      runner: this.#runner,
      hold: () => this.hold,
      tasks: this.#tasks,
      renewKeys: () => this.poll(false),
    });
    return worker;
  }

  /** Stops the heartbeats, and stops following the heads of the job. */
  endContact(): void {
    this.#contact?.stop();
  }

  /**
   * Logs the reason that a new head gives, and a round that this node has missed. If the head has a new checkpoint, fetches and keeps the signed checkpoint,
   * and asks what this node has contributed up to that checkpoint. An even newer head does not abort these requests.
   * The node also makes them if it already has the adapter of the checkpoint, for example after a roll-back.
   */
  noteHead({ head, missedRound }: NodeState, before: NodeState): void {
    const context = this.#worker?.context;
    if (context === undefined || head === null) return;
    const { phase, round, reason, checkpoint } = head;
    const isNews = phase !== before.head?.phase || reason !== before.head.reason;
    if (reason !== '' && isNews) context.deps.log.info({ phase, round, reason }, 'head-reason');
    if (missedRound !== null && missedRound !== before.missedRound) {
      context.deps.log.info({ round: missedRound, reason: MISSED }, 'round-missed');
    }
    if (before.phase !== 'joining' && checkpoint.digest === before.head?.checkpoint.digest) return;
    const run = (name: string, task: (signal: AbortSignal) => Promise<void>): void =>
      // Training does not wait for these tasks. Other nodes keep the checkpoint too, and the answer about the contribution is
      // only shown. A failure is therefore only logged.
      this.#tasks.run(name, () =>
        task(this.#tasks.life).catch((error: unknown) => this.#deps.log.debug({ error }, `${name}-failed`)),
      );
    run('keep-checkpoint', (signal) => keepCheckpoint(context, head, signal));
    run('ask-contribution', (signal) => askContribution(context, signal));
  }

  /**
   * Asks the coordinator for the newest head and keys of the job.
   * @param rejoin if true, the node joins the job again, because the coordinator may have forgotten it
   */
  async poll(rejoin: boolean): Promise<void> {
    if (!rejoin) return this.#askForHead(false);
    try {
      await this.#askForHead(true);
      this.#runner.dispatch({ type: 'rejoined' });
    } catch (error) {
      this.#runner.dispatch({ type: 'rejoin-failed', jitter: this.#worker!.context.deps.random() });
      throw error;
    }
  }

  async #askForHead(rejoin: boolean): Promise<void> {
    const { context } = this.#worker!;
    const { head: known } = this.#runner.state;
    const head = await requestHead(context, { known, rejoin }, this.#tasks.life).catch((error: unknown) => {
      // The node joins again, because the coordinator no longer counts it as a member. For example, the job was full, and
      // another node took this node's place.
      const isForgotten = isSwarmError(error, 'RPC_REFUSED') && error.values.code === 'NOT_ADMITTED';
      if (rejoin || !isForgotten) throw error;
      return requestHead(context, { known, rejoin: true }, this.#tasks.life);
    });
    if (head && context === this.#worker?.context) this.#runner.dispatch({ type: 'head', head });
  }

  /** Fetches a blob of the job again after the blob was found damaged and deleted. */
  replace(digest: string): void {
    const context = this.#worker?.context;
    if (context) replaceBlob(context, digest, { runner: this.#runner, tasks: this.#tasks });
  }

  /** Tells the coordinator that the node leaves the job. */
  async leave(): Promise<void> {
    // Waits for the updates that are being submitted, so that they arrive before the node leaves.
    await this.#tasks.settled();
    if (!this.#worker) return;
    const { coordinator, job } = this.#worker.context;
    const body = { job, reason: 'stopped', ...runOf(this.#deps) };
    await request(this.#deps, coordinator, 'leave', body, this.#tasks.life);
    this.#deps.log.info({ job }, 'job-left');
  }

  /** Looks for the coordinator's next job from time to time, and joins it. */
  watchNextJob(): void {
    const watch = (): void => this.#tasks.run('watch-jobs', () => this.#lookForNextJob());
    this.#cancelWatch = this.#deps.clock.after(JOB_WATCH_MS, watch);
  }

  async #lookForNextJob(): Promise<void> {
    const { job, coordinator } = this.#worker!.context;
    const { open } = await openJobs(this.#options, this.#deps, coordinator, this.#tasks.life).catch(() => ({
      open: [],
    }));
    if (!isDone(this.#runner.state)) return;
    if (open.some((other) => other !== job)) this.#runner.dispatch({ type: 'start' });
    else this.watchNextJob();
  }

  #onStanding(standing: OwnStanding): void {
    const before = this.#standing?.kind ?? 'good';
    this.#standing = standing;
    if (standing.kind !== before) this.#deps.log.warn({ ...standing }, 'standing-changed');
  }

  stopWatching(): void {
    this.#cancelWatch();
    this.#diskHold.stop();
  }
}
