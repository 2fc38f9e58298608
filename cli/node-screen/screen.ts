import type { Context } from '../context.ts';
import { NodeProgress, type ShownStatus } from '../views/node.ts';
import { NodeLines } from '../views/node-news.ts';
import { jobsOf, restoredOf, screenLines, thanksOf } from './lines.ts';
import { LiveArea } from './live-area.ts';
import { JobPace } from './pace.ts';
import type { ScreenWarnings } from './warnings.ts';

/** Maximum number of news items that are kept in memory. */
const NEWS = 20;
/** Time for which a warning stays on the screen, in milliseconds. */
const WARNING_MS = 600_000;
/**
 * Time after a reconnect in which failed requests are not shown, in milliseconds. A coordinator that has just
 * started refuses the first requests, and requests that were sent before the reconnect may still fail.
 */
const RECONNECT_MS = 10_000;

interface ScreenOptions {
  readonly warnings: ScreenWarnings;
  readonly logFile: string;
  /**
   * Text of the option that other commands need to find the home of the node; empty if they find the home
   * without this option.
   */
  readonly homeFlag: string;
}

/** The screen of a node in a terminal. It is drawn again in the same place when something changes. */
export class NodeScreen {
  readonly #context: Pick<Context, 'stderr' | 'clock'>;
  readonly #options: ScreenOptions;
  readonly #area: LiveArea;
  readonly #lines: NodeLines;
  readonly #progress = new NodeProgress();
  readonly #paces: JobPace[] = [];
  #news: { at: number; text: string }[] = [];
  /** Time at which the connection to a coordinator was last missing, in milliseconds. */
  #disconnectedAt = Number.NEGATIVE_INFINITY;

  constructor(context: Pick<Context, 'stderr' | 'clock'>, options: ScreenOptions) {
    this.#context = context;
    this.#options = options;
    this.#lines = new NodeLines(options);
    this.#area = new LiveArea(context.stderr);
  }

  show(status: ShownStatus): void {
    const { stderr, clock } = this.#context;
    const { warnings, logFile, homeFlag } = this.#options;
    const now = clock.now();
    const jobs = jobsOf(status);
    const shown = jobs.flatMap((job) => [...thanksOf(job, { status, homeFlag }), ...restoredOf(job)]);
    const news = this.#lines
      .next(status)
      // The lines of a job show the thanks and a roll-back, so news about them are left out.
      .filter((text) => !shown.some((own) => text.endsWith(own)))
      .map((text) => ({ at: now, text }));
    this.#news = [...news.reverse(), ...this.#news].slice(0, NEWS);
    const progress = this.#progress.line(status, now);
    // While a coordinator is disconnected, a line of the job says so. Warnings about failed requests would only repeat that.
    if (jobs.some(({ coordinator, shutOut }) => !coordinator.connected && shutOut === null)) {
      this.#disconnectedAt = now;
    }
    if (now - this.#disconnectedAt < RECONNECT_MS) warnings.dropContact();
    const state = {
      status,
      timeLeft: jobs.map((job, i) => {
        this.#paces[i] ??= new JobPace();
        return this.#paces[i].next(job, now);
      }),
      download: jobs.some(({ download }) => download !== null) ? progress : null,
      warnings: warnings.newest(NEWS, now - WARNING_MS),
      news: this.#news,
      ...{ logFile, homeFlag },
    };
    this.#area.draw(screenLines(state, stderr));
  }
}
