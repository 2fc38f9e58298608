import { setTimeout as sleep } from 'node:timers/promises';
import { countOf } from '../../common/text.ts';
import { needsOperatorSince } from '../../coordinator/client/follow.ts';
import { type ApiClient, followEvents } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, type HomeFlag } from '../daemon/connect.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { ProgressLine, printJson, printWrapped } from '../print.ts';
import { EventLines } from '../views/events.ts';
import { jobActivity } from '../views/status.ts';

/** Interval of the progress line, in milliseconds. */
const PROGRESS_MS = 1_000;
/** Number of spaces before the continuation of an event's line. */
const INDENT = 2;

export interface WaitOptions extends HomeFlag {
  /** "finished" or "round=N". */
  until: string;
  /** Seconds after which to give up. @default never */
  timeout?: number;
  json?: boolean;
}

/**
 * Follows a job until it ends, reaches the round in `until`, or is paused because of a problem. Prints the job's events
 * to stdout and its progress to stderr.
 * @throws SwarmError JOB_PAUSED, WAIT_TIMED_OUT, USAGE, DAEMON_NOT_RUNNING
 */
export async function waitForJob(
  context: Context,
  id: string | undefined,
  options: WaitOptions,
): Promise<void> {
  const round = untilRound(options.until);
  const open = () => coordinatorApi(context, options);
  const api = await open();
  const { job, name, rounds, roundsDone, baseLoss, ...at } = await api.job(await chooseJob(api, id));
  const nullRounds = Math.max(at.round - 1, at.checkpoint.round) - roundsDone;
  if (round !== null && round > rounds + nullRounds) {
    throw usageError(`job ${name} has only ${countOf(rounds, 'round')}, so it never reaches round ${round}`);
  }
  const timeout = options.timeout === undefined ? [] : [AbortSignal.timeout(options.timeout * 1000)];
  const finished = new AbortController();
  const signal = AbortSignal.any([context.signal, finished.signal, ...timeout]);
  const progress = new ProgressLine(context);
  const showing = options.json ? null : showProgress(context, progress, { open, job, signal });
  const lines = new EventLines({ baseLoss });
  try {
    for await (const event of followEvents(open, job, { signal, now: context.clock.now })) {
      const line = options.json ? null : lines.line(event);
      if (options.json) printJson(context, { schemaVersion: 1, ...event });
      if (line !== null) {
        progress.clear();
        printWrapped(context, [line], INDENT);
      }
      if (event.type === 'finished') return;
      const isCheckpoint = event.type === 'checkpoint' || event.type === 'rolled-back';
      if (isCheckpoint && round !== null && event.round >= round) return;
      if (event.type === 'paused') {
        const { sequence, reason } = event;
        if (!(await needsOperatorSince(open, job, sequence, { signal, now: context.clock.now }))) continue;
        throw cliError(
          'JOB_PAUSED',
          `the coordinator paused job ${name}: ${reason}`,
          { reason },
          {
            next: `fix the cause, then run "${SWARM} job resume ${name}", or end the job with "${SWARM} job stop ${name}"`,
          },
        );
      }
    }
  } catch (error) {
    context.signal.throwIfAborted();
    if (!timeout[0]?.aborted) throw error;
    throw cliError(
      'WAIT_TIMED_OUT',
      `job ${name} has not ${round === null ? 'finished' : `reached round ${round}`} after ${options.timeout} s`,
      { until: options.until, seconds: options.timeout },
      { next: 'the job continues; wait again, or see "lora-swarm status"' },
    );
  } finally {
    finished.abort();
    await showing;
    progress.clear();
  }
}

/** Shows what the job is doing: every second in a terminal, and once elsewhere. */
async function showProgress(
  { stderr }: Pick<Context, 'stderr'>,
  progress: ProgressLine,
  { open, job, signal }: { open: () => Promise<ApiClient>; job: string; signal: AbortSignal },
): Promise<void> {
  do {
    try {
      const line = jobActivity(await (await open()).job(job));
      if (!signal.aborted && line !== null) progress.update(line);
    } catch {
      // Ignore the error, because progress is optional. The loop over the job's events reports real failures.
    }
    await sleep(PROGRESS_MS, undefined, { signal }).catch(() => {});
  } while (stderr.isTTY && !signal.aborted);
}

function untilRound(text: string): number | null {
  if (text === 'finished') return null;
  const match = /^round=(\d+)$/.exec(text);
  if (match === null) throw usageError(`--until "${text}" is neither "finished" nor "round=N"`);
  return Number(match[1]);
}
