import { isSwarmError } from '../common/errors.ts';
import { phaseText } from '../common/text.ts';
import type { Clock } from '../common/time/clock.ts';
import { changedSettings } from '../protocol/job/settings.ts';
import { jobTopic } from '../protocol/job/topics.ts';
import { HEARTBEAT_INTERVAL_MS } from '../protocol/limits.ts';
import { bestCheckpoint } from './best-checkpoint.ts';
import type { RunContext } from './context.ts';
import { coordinatorError } from './errors.ts';
import { OfferedBlobs } from './evaluation/offered-blobs.ts';
import { Intake } from './intake/intake.ts';
import type { JobChange } from './job-changes.ts';
import { Scorers } from './merge/scorers.ts';
import { Membership } from './peers/membership.ts';
import { Contributions } from './record/contributions.ts';
import type { Outbox } from './record/outbox.ts';
import { Receipts } from './record/receipts.ts';
import { machineSettings } from './record/restore.ts';
import { RoundDriver } from './record/round-driver.ts';
import { RoundRecord } from './record/round-record.ts';
import { requireKept } from './require-kept.ts';
import { isEnding, isOver } from './round/job-phase.ts';
import type { MachineEvent } from './round/state.ts';
import type { JobTasks } from './store/store.ts';
import { Ledger } from './trust/ledger.ts';
import { waysOn } from './ways-on.ts';

type OperatorOrder =
  | { type: 'pause'; reason: string }
  | Extract<MachineEvent, { type: 'resume' | 'stop' | 'roll-back' }>;

/** One job in a coordinator. Makes the parts of the job and connects them to the network and the clock. */
export class JobRun {
  readonly context: RunContext;
  readonly receipts: Receipts;
  readonly ledger: Ledger;
  readonly record: RoundRecord;
  readonly driver: RoundDriver;
  readonly members: Membership;
  readonly scorers: Scorers;
  readonly intake: Intake;
  /** Blobs that a scorer may fetch while it evaluates a checkpoint. */
  readonly offered = new OfferedBlobs();
  readonly contributions: Contributions;
  readonly #cleanups: (() => void)[] = [];

  constructor(deps: { context: RunContext }) {
    const { context } = deps;
    this.context = context;
    const receipts = new Receipts({ context });
    const ledger = new Ledger({ context });
    const record = new RoundRecord({ context, ledger });
    const isReady = (peer: string): boolean =>
      this.members.list.get(peer)?.role === 'operator' && (this.members.liveness.get(peer)?.ready ?? false);
    const scorers = new Scorers({ isReady });
    const driver = new RoundDriver({ context, record, receipts, ledger, scorers });
    const onIdle = (peer: string, round: number): void => this.intake.giveUp(peer, round);
    const members = new Membership({ context, driver, receipts, ledger, onIdle });
    this.receipts = receipts;
    this.ledger = ledger;
    this.record = record;
    this.driver = driver;
    this.members = members;
    this.scorers = scorers;
    this.intake = new Intake({ context, driver, record, receipts, ledger, members });
    this.contributions = new Contributions(context.job, context.deps);
  }

  /** Returns whether a peer may join the job with this invite. */
  admits(peer: string, invite: string | null): boolean {
    try {
      this.members.invites.check(peer, invite, this.members.list.get(peer));
      return true;
    } catch (error) {
      if (isSwarmError(error)) return false;
      throw error;
    }
  }

  /** Returns whether a peer may read the job: its manifest, heads, checkpoints and scores. */
  mayRead(peer: string): boolean {
    if (this.members.mayRead(peer)) return true;
    return this.context.stored.admission.kind === 'open' && !this.members.invites.isShutOut(peer);
  }

  /**
   * @param options.held whether to hold the job: until `RoundDriver.release` is called, it merges no round and signs no
   * new head
   */
  start({ held }: { held: boolean }): void {
    const { job, deps } = this.context;
    // Hold the job before anything else, because a removal can end the round.
    if (held) this.driver.hold();
    // Delete weights and blobs that a killed process had released but not deleted. Do this even if the job is over.
    void this.record.retention.clean();
    this.members.removals.removeBanned();
    if (isOver(this.driver.state)) {
      this.members.removals.removeRevoked();
      return;
    }
    const { liveness } = this.members;
    const admits = (author: string): boolean => this.members.list.has(author);
    // Only the coordinator reads the messages of these topics. If it forwarded them, any subscriber would learn who
    // takes part in the job.
    this.#cleanups.push(
      deps.network.subscribe(
        jobTopic(job, 'updates'),
        ({ from, data }) => {
          const { verdict, receipt } = this.intake.receive(data, from, { sealed: true });
          receipt.catch((error: unknown) => deps.log.warn({ peer: from, error }, 'update-not-taken'));
          return verdict;
        },
        { admits, forwards: false },
      ),
      deps.network.subscribe(jobTopic(job, 'peers'), ({ from, data }) => liveness.receive(data, from), {
        admits,
        forwards: false,
      }),
      every(deps.clock, HEARTBEAT_INTERVAL_MS, () => liveness.dropSilent()),
    );
    this.driver.start();
    this.members.removals.removeRevoked();
  }

  /** Unsubscribes and cancels timers. The caller must abort the context's signal first. */
  async stop(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    this.members.recordLastSigns();
    await this.driver.stop();
  }

  /**
   * Restores the adapter of an earlier checkpoint, as soon as no round is being merged.
   * @param target round of the checkpoint, or `best` for the best checkpoint
   * @param reason reason for the roll-back, which the nodes and the history of the job show
   * @returns the round of the checkpoint
   * @throws SwarmError CHECKPOINT_UNKNOWN, CHECKPOINT_PRUNED, JOB_OVER
   */
  rollBack(target: number | 'best', reason = ''): number {
    const { job, stored, deps } = this.context;
    const { rounds } = deps.store;
    const found = target === 'best' ? bestCheckpoint(job, deps.store) : rounds.checkpoint(job, target);
    if (!found) {
      throw coordinatorError(
        'CHECKPOINT_UNKNOWN',
        `job ${stored.name} has no checkpoint ${target === 'best' ? 'that is known to be the best' : `of round ${target}`}`,
        { round: target, known: rounds.checkpointRounds(job) },
        { next: `see all its checkpoints with "lora-swarm checkpoint list ${stored.name}"` },
      );
    }
    requireKept({ round: found.round, kept: found.weights === 'held' });
    this.operate({ type: 'roll-back', to: found.round, reason });
    return found.round;
  }

  /**
   * Changes settings of the job. New settings apply from the next round that opens. A new priority and a new
   * `tasksEvery` apply at once. A change of any other setting ends the hold of the job.
   * @param change settings with new values
   * @throws SwarmError JOB_BEHIND, JOB_OVER, SETTING_INVALID
   */
  change({ priority, tasksEvery, ...values }: JobChange, { reason }: { reason: string }): void {
    const { job, manifest, settings, place, deps } = this.context;
    this.#requireRunning();
    const before = tasksEvery === undefined ? undefined : this.#requireTasks().every;
    const after = { ...settings.newest, ...values };
    const changes = changedSettings(settings.newest, after);
    const { committed } = this.driver.state;
    const least = committed + 1;
    if (after.count !== settings.newest.count && after.count < least) {
      throw coordinatorError(
        'SETTING_INVALID',
        `rounds.count is ${after.count}, but the job already has ${committed} checkpoints`,
        { key: 'rounds.count', least },
        { next: `use at least ${least}, or end the job with "lora-swarm job stop JOB"` },
      );
    }
    // End the hold before the round in progress is read, because the end of the hold can close that round. A refused
    // change throws above, so it does not end the hold.
    if (changes.length > 0) this.#endHold();
    const { current, round } = this.driver.state;
    const fromRound = current === null ? round : round + 1;
    const write = (outbox: Outbox): void => {
      if (changes.length > 0) {
        const { digest } = settings.record(after, { fromRound, reason, now: deps.clock.now() });
        outbox.event({ type: 'settings-changed', fromRound, digest, changes, reason });
      }
      if (priority !== undefined && priority !== place.priority) {
        outbox.event({ type: 'priority-changed', before: place.priority, after: priority, reason });
        place.setPriority(priority);
      }
      if (tasksEvery !== undefined && before !== undefined && tasksEvery !== before) {
        outbox.event({ type: 'tasks-changed', key: 'tasks.every', before, after: tasksEvery, reason });
        deps.store.tasks.setEvery(job, tasksEvery);
      }
    };
    if (changes.length === 0) this.driver.transact(write);
    else this.driver.dispatch({ type: 'settings', settings: machineSettings(manifest, after) }, write);
  }

  /** @throws SwarmError JOB_BEHIND if a node has a later head, because the order would contradict that head */
  #endHold(): void {
    const { job, stored, isBehind } = this.context;
    if (isBehind()) {
      const message = `the coordinator was restored from an old backup, and is fetching the newer records of job ${stored.name} from its nodes`;
      throw coordinatorError('JOB_BEHIND', message, { job });
    }
    this.driver.release();
  }

  /** Returns the tasks of the job. @throws SwarmError SETTING_INVALID if it has none */
  #requireTasks(): JobTasks {
    const { job, stored, deps } = this.context;
    const tasks = deps.store.tasks.of(job);
    if (tasks !== null) return tasks;
    throw coordinatorError(
      'SETTING_INVALID',
      `tasks.every cannot be set, because job ${stored.name} has no tasks`,
      { key: 'tasks.every' },
      { next: 'create another job from a job file with the key tasks: "lora-swarm job create FILE"' },
    );
  }

  /** Checks that the job has not ended, and does not end with the current round. @throws SwarmError JOB_OVER */
  #requireRunning(): void {
    const { round, settings, committed } = this.driver.state;
    const { name } = this.context.stored;
    if (!isOver(this.driver.state) && !isEnding(this.driver.state)) return;
    const phase = phaseText({ ...this.driver.state, rounds: settings.count, roundsDone: committed });
    const what = isOver(this.driver.state) ? `is ${phase}` : `was stopped and ends with round ${round}`;
    throw coordinatorError('JOB_OVER', `job ${name} ${what}`, { job: name, phase }, { next: waysOn(name) });
  }

  /**
   * Opens the job if it is queued.
   * @param cause `ended` if the awaited job has ended, `operator` if the operator resumes this job
   */
  unqueue(cause: 'ended' | 'operator'): void {
    this.driver.dispatch({ type: 'unqueue' }, (outbox) => {
      this.context.place.leaveQueue();
      outbox.event({ type: 'unqueued', cause });
    });
  }

  /**
   * Carries out an operator's command. A command ends the hold of the job. A job that is behind its nodes takes only the
   * command to stop, which takes effect later.
   * @throws SwarmError JOB_BEHIND, JOB_OVER, JOB_QUEUED
   */
  operate(order: OperatorOrder): void {
    const { phase } = this.driver.state;
    const event: MachineEvent = order.type === 'pause' ? { ...order, cause: 'operator' } : order;
    if (event.type !== 'stop' || isOver(this.driver.state)) this.#requireRunning();
    if (phase === 'queued' && event.type !== 'stop' && event.type !== 'resume') {
      throw coordinatorError('JOB_QUEUED', `job ${this.context.stored.name} is queued and has not begun`);
    }
    if (event.type === 'stop' && this.context.isBehind()) {
      this.context.stopBehind(event.reason);
      return;
    }
    this.#endHold();
    if (phase === 'queued' && event.type === 'resume') {
      this.unqueue('operator');
      return;
    }
    this.driver.dispatch(event, (outbox) => {
      if (event.type === 'resume' && phase === 'paused') outbox.event({ type: 'resumed' });
    });
  }
}

/** Calls `callback` every `ms` milliseconds. Returns a function that stops the calls. */
function every(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = clock.after(ms, function again() {
    cancel = clock.after(ms, again);
    callback();
  });
  return () => cancel();
}
