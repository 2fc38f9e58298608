import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { KeptLimits, Pause } from '../../protocol/api/node.ts';
import type { LimitChanges, LimitsFile } from './limits.ts';
import type { Pauses } from './pauses.ts';

/**
 * The work of a node for one job, as a drain sees it. A drain lets the node finish its round, and then stops the node.
 */
export interface DrainedWork {
  /** Whether the node trains a round or builds its update. */
  readonly isTraining: boolean;
  /** Whether the update of the open round has no receipt yet. */
  readonly awaitsReceipt: boolean;
}

export interface NodeControlDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly file: LimitsFile;
  readonly pauses: Pauses;
  /** Returns the work of all jobs. */
  readonly work: () => readonly DrainedWork[];
  /** Applies changes of limits to the running node. */
  readonly onLimits: (changes: LimitChanges) => void;
  /** Stops the node, after a drain. */
  readonly stop: () => void;
}

/** Milliseconds between two checks of the work that a drain waits for. */
const DRAIN_POLL_MS = 250;
/**
 * Maximum time that a drain waits for receipts after the node has stopped training, in milliseconds. If no receipt has
 * arrived, the node sends the update again at its next start.
 */
const RECEIPT_MS = 30_000;
/** Maximum delay of one timer, in milliseconds. Timers of Node.js overflow at 2^31 ms, about 25 days. */
const TIMER_MS = 24 * 3_600_000;

/** Carries out the orders that the owner of a machine gives to a running node. */
export class NodeControl {
  readonly #deps: NodeControlDeps;
  #cancelPause = (): void => {};
  /** The pause that `MachineWatch` asks for; null for none. */
  #machinePause: Pause | null = null;
  #cancelDrain = (): void => {};
  #isStopped = false;

  constructor(deps: NodeControlDeps) {
    this.#deps = deps;
  }

  get limits(): KeptLimits {
    return this.#deps.file.limits;
  }

  /** Applies the pause that is stored in the home. */
  start(): void {
    this.#applyPause();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelPause();
    this.#cancelDrain();
  }

  /** Pauses the node. The pause survives restarts. @param forMs duration; null if the owner ends the pause */
  async pause(forMs: number | null): Promise<void> {
    const until = forMs === null ? 'resume' : this.#deps.clock.now() + forMs;
    await this.#deps.file.keepPause(until);
    this.#deps.log.info({ until }, 'node-paused');
    this.#applyPause();
  }

  /** Ends the owner's pause. */
  async resume(): Promise<void> {
    await this.#deps.file.keepPause(null);
    this.#deps.log.info({}, 'node-resumed');
    this.#applyPause();
  }

  /** Sets the pause that `MachineWatch` asks for; null for none. The owner's pause takes precedence. */
  setMachinePause(pause: Pause | null): void {
    if (pause?.reason !== this.#machinePause?.reason) {
      this.#deps.log.info({ reason: pause?.reason ?? null }, 'machine-pause');
    }
    this.#machinePause = pause;
    this.#applyPause();
  }

  /** Lets the node finish its current round, and then stops it. A paused node does not finish its round first. */
  drain(): void {
    const { pauses, log, clock } = this.#deps;
    if (pauses.isDraining) return;
    log.info({}, 'node-drains');
    pauses.drain();
    // The first check comes later, so that the owner gets an answer before the node stops.
    this.#watchDrainLater(clock.monotonic());
  }

  async setLimits(changes: LimitChanges): Promise<void> {
    const { file, log, onLimits } = this.#deps;
    await file.change(changes);
    log.info({ ...changes }, 'limits-changed');
    onLimits(changes);
  }

  #applyPause(): void {
    // An order can be stored after the node has stopped. Ignore it here, because the next start applies it.
    if (this.#isStopped) return;
    this.#cancelPause();
    const { file, clock, pauses } = this.#deps;
    const { pausedUntil } = file;
    const leftMs = typeof pausedUntil === 'number' ? pausedUntil - clock.now() : Infinity;
    const isPaused = pausedUntil !== null && leftMs > 0;
    pauses.set(isPaused ? ownersPause(pausedUntil) : this.#machinePause);
    if (isPaused && leftMs < Infinity) {
      this.#cancelPause = clock.after(Math.min(leftMs, TIMER_MS), () => this.#applyPause());
    }
  }

  #watchDrainLater(trainedAt: number): void {
    if (this.#isStopped) return;
    this.#cancelDrain = this.#deps.clock.after(DRAIN_POLL_MS, () => this.#watchDrain(trainedAt));
  }

  /** @param trainedAt time at which this drain last saw the node train, on the monotonic clock */
  #watchDrain(trainedAt: number): void {
    const { clock, pauses, work, stop } = this.#deps;
    const now = clock.monotonic();
    const all = work();
    const isTraining = pauses.current === null && all.some((one) => one.isTraining);
    const awaits = all.some(({ awaitsReceipt }) => awaitsReceipt) && now - trainedAt < RECEIPT_MS;
    if (isTraining || awaits) this.#watchDrainLater(isTraining ? now : trainedAt);
    else stop();
  }
}

function ownersPause(until: number | 'resume'): Pause {
  const isOpen = until === 'resume';
  return {
    reason: 'paused',
    text: isOpen
      ? 'you have paused this node; "lora-swarm node resume" ends the pause'
      : 'you have paused this node for some time; "lora-swarm node resume" ends the pause earlier',
    until: isOpen ? null : until,
  };
}
