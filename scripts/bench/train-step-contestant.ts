import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { GRAPH_PROCESS_ENVIRONMENT } from '../../lora/engines/allocator.ts';

/** One step, as a process reports it in a line of JSON. */
export interface Step {
  readonly milliseconds: number;
  readonly cpuMilliseconds: number;
  /** Floating-point operations of the step's matrix products. Only our own contestants report them. */
  readonly flops?: number;
  /** Loss in nats per supervised token. */
  readonly loss: number;
  readonly peakBytes: number;
}

export interface ContestantOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Whether the contestant runs with the allocator settings of our trainers. */
  readonly ours: boolean;
}

/** Maximum time in which a contestant must load or take one step, in milliseconds. */
const STEP_DEADLINE_MS = 300_000;

/**
 * A program that takes steps when it is its turn. Each turn runs in a separate process, because several contestants
 * would not fit into memory together. Each turn also starts with freshly allocated memory.
 */
export class Contestant {
  readonly name: string;
  /** The measured steps, without the warm-up steps. */
  readonly steps: Step[] = [];
  /** Reason of a failure; null if there was none. */
  failure: string | null = null;
  readonly #options: ContestantOptions;
  readonly #setup: string;
  #child: ChildProcess | null = null;

  /** @param setup one line of JSON, which the process reads first */
  constructor(options: ContestantOptions, setup: string) {
    this.name = options.name;
    this.#options = options;
    this.#setup = setup;
  }

  /**
   * Starts the process and makes `steps` steps. If there are several steps, the first one does not count. If the
   * process dies, sets `failure`. The contestant then gets no further turn.
   */
  async turn(steps: number, log: (line: string) => void): Promise<void> {
    const { command, args, ours } = this.#options;
    const environment = ours ? GRAPH_PROCESS_ENVIRONMENT : {};
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_WAIT_POLICY: 'passive', ...environment },
    });
    this.#child = child;
    const ended = new Promise((resolve) => child.once('close', resolve));
    // Writing to a process that has died fails. Ignore that error, because the end of the process is handled below.
    child.stdin.on('error', () => {});
    child.stdin.write(this.#setup);
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    for (let index = 0; index < steps; index++) {
      const deadline = setTimeout(() => child.kill('SIGKILL'), STEP_DEADLINE_MS);
      child.stdin.write('step\n');
      const { value, done } = await answers.next();
      clearTimeout(deadline);
      if (done) {
        await ended;
        this.failure = `ended with ${child.signalCode ?? child.exitCode} in its ${index === 0 ? 'first' : 'next'} step (SIGKILL means out of memory, or a step of more than ${STEP_DEADLINE_MS / 1000} s)`;
        log(`${this.name} ${this.failure}`);
        return;
      }
      const step = JSON.parse(value) as Step;
      const times = `${Math.round(step.milliseconds)} ms, ${Math.round(step.cpuMilliseconds)} ms of processor time`;
      const counts = index > 0 || steps === 1;
      log(
        `${this.name}: ${times}, ${Math.round(step.peakBytes / 2 ** 20)} MiB${counts ? '' : ', does not count'}`,
      );
      if (counts) this.steps.push(step);
    }
    child.stdin.end();
    await ended;
  }

  stop(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Time of the fastest step. Slower steps do not count, because other load on the machine can only add time. */
  get milliseconds(): number {
    return Math.min(...this.steps.map(({ milliseconds }) => milliseconds));
  }

  get cpuMilliseconds(): number {
    return Math.min(...this.steps.map(({ cpuMilliseconds }) => cpuMilliseconds));
  }

  /** Text with the times of the fastest and of the slowest counted step. */
  get range(): string {
    const worst = Math.max(...this.steps.map(({ milliseconds }) => milliseconds));
    return `${Math.round(this.milliseconds)} to ${Math.round(worst)} ms`;
  }

  get flopsPerSecond(): number {
    return (this.steps[0]!.flops! * 1000) / this.milliseconds;
  }

  get flopsPerCpuSecond(): number {
    return (this.steps[0]!.flops! * 1000) / this.cpuMilliseconds;
  }

  /** Peak of resident memory, in MiB. */
  get mebibytes(): number {
    return Math.round(Math.max(...this.steps.map(({ peakBytes }) => peakBytes)) / 2 ** 20);
  }

  get loss(): number {
    return this.steps[0]!.loss;
  }
}
