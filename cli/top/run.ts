import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../common/errors.ts';
import type { Context } from '../context.ts';
import { type Daemon, runningDaemons } from '../daemon/running.ts';
import { homeFlag } from '../views/thanks.ts';
import { Collector } from './collect.ts';
import { frameLines } from './frame.ts';
import { afterKey, keysIn } from './keys.ts';
import { FullScreen } from './screen.ts';
import { FIRST_CHOICE, type TopState } from './state.ts';

/** Time between two requests for facts, in milliseconds. Nodes send a heartbeat every 2 s. */
const POLL_MS = 1_000;

/** Returns the facts for one frame, for an output that is not a terminal. */
export async function firstState(context: Context, daemon: Daemon): Promise<TopState> {
  const { clock } = context;
  const facts = await collectorOf(context, daemon).collect(daemon.api, daemon.role, FIRST_CHOICE);
  return { facts, choice: FIRST_CHOICE, now: clock.now(), failure: null };
}

function collectorOf(context: Context, { home }: Daemon): Collector {
  return new Collector({ now: () => context.clock.now(), homeFlag: homeFlag(context, home) });
}

/** Shows frames in the terminal until the user quits or the signal of the context aborts. */
export async function showTop(context: Context, home: string | undefined, daemon: Daemon): Promise<void> {
  const screen = new FullScreen(context.stdout);
  // Leave the screen in a handler of `exit` too, because a second Ctrl-C, or an error outside this function,
  // ends the process without running the `finally` below.
  const onExit = (): void => screen.leave();
  process.on('exit', onExit);
  // main.ts prints the error of a crash before the process exits. Leaving the screen first keeps this text visible.
  process.on('uncaughtExceptionMonitor', onExit);
  try {
    const collector = collectorOf(context, daemon);
    const facts = await collector.collect(daemon.api, daemon.role, FIRST_CHOICE);
    let state: TopState = { facts, choice: FIRST_CHOICE, now: context.clock.now(), failure: null };
    const draw = (changes: Partial<TopState>): void => {
      state = { ...state, ...changes };
      screen.draw(frameLines(state, context.stdout));
    };
    const quit = new AbortController();
    const signal = AbortSignal.any([context.signal, quit.signal]);
    let api = daemon.api;
    /** Ends the pause between two requests when the user has chosen another job. */
    let hurry = new AbortController();
    screen.enter();
    draw({});
    const stopResizing = context.onResize(() => {
      screen.forget();
      draw({});
    });
    const reading = readKeys(context, signal, (key) => {
      const choice = afterKey(key, state.choice, state);
      if (choice === 'quit') quit.abort();
      else {
        if (choice.job !== state.choice.job) hurry.abort();
        draw({ choice });
      }
    });
    try {
      while (!signal.aborted) {
        // An abort ends the pause early.
        await sleep(POLL_MS, undefined, { signal: AbortSignal.any([signal, hurry.signal]) }).catch(() => {});
        if (signal.aborted) break;
        hurry = new AbortController();
        try {
          const found = await collector.collect(api, daemon.role, state.choice);
          draw({ facts: found, now: context.clock.now(), failure: null });
        } catch (error) {
          if (signal.aborted) break;
          draw({ now: context.clock.now(), failure: messageOf(error) });
          // The daemon may have restarted with another port, so look up its port. If the daemon has ended, it
          // is not in the list, and the next poll tries again.
          const again = await runningDaemons(context, home).catch(() => []);
          api =
            again.find(({ role, home: same }) => role === daemon.role && same === daemon.home)?.api ?? api;
        }
      }
    } finally {
      stopResizing();
      quit.abort();
      await reading;
    }
  } finally {
    screen.leave();
    process.removeListener('exit', onExit);
    process.removeListener('uncaughtExceptionMonitor', onExit);
  }
}

/** Calls `onKey` with each key until the signal aborts or the input ends. */
async function readKeys(context: Context, signal: AbortSignal, onKey: (key: string) => void): Promise<void> {
  try {
    for await (const text of context.keys(signal)) for (const key of keysIn(text)) onKey(key);
  } catch (error) {
    // The abort of the signal ends the loop. Any other failure of the terminal is an error of the program.
    if (!signal.aborted) throw error;
  }
}
