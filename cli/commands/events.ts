import type { Command } from 'commander';
import { atTime, bannedPeers, momentAfter, NO_MOMENT } from '../../monitor/replay.ts';
import { momentBefore, RoundEnd } from '../../monitor/round-end.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, JOB_ARGUMENT } from '../daemon/connect.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, integer, jsonOption } from '../options/common.ts';
import { type Moment, moment } from '../options/moment.ts';
import { printJson, printLines } from '../print.ts';
import { EventLines } from '../views/events.ts';
import { momentLines } from '../views/moment.ts';

interface ReplayOptions {
  home?: string;
  json?: boolean;
  round?: number;
  at?: Moment;
}

/** Number of events that are shown: the last events up to the moment that --round or --at names. */
const SHOWN_EVENTS = 10;

export function registerEvents(program: Command, context: Context): void {
  program
    .command('events')
    .helpCommand(false)
    .description('inspect the events of jobs')
    .command('replay')
    .description('show the state of a job at a past moment, computed from the events of the job')
    .argument(...JOB_ARGUMENT)
    .option(
      '--round <n>',
      'show the state at the end of this round; if the round has not ended, show the newest state',
      integer(1),
    )
    .option(
      '--at <time>',
      'show the state at this moment, given as a date such as 2026-11-28T14:30, or as a length of time before now, such as 30m, 12h or 7d (default: now)',
      moment,
    )
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((job: string | undefined, options: ReplayOptions) => replay(context, job, options));
}

async function replay(context: Context, named: string | undefined, options: ReplayOptions): Promise<void> {
  const { round, at, json = false } = options;
  if (round !== undefined && at !== undefined)
    throw usageError('--round and --at both name a moment', 'use one of them');
  const api = await coordinatorApi(context, options);
  const { job, name } = await api.job(await chooseJob(api, named));
  const now = context.clock.now();
  const until = at?.(now) ?? Number.POSITIVE_INFINITY;
  const lines = new EventLines();
  const newest: { at: number; text: string }[] = [];
  const end = round === undefined ? null : new RoundEnd(round);
  let found = NO_MOMENT;
  for await (const event of api.events(job, { follow: false })) {
    if (event.at > until) break;
    if (end?.isPassedBy(event)) {
      found = momentBefore(event, found);
      break;
    }
    if (end?.isLostIn(event)) {
      throw cliError(
        'EVENTS_MISSING',
        `the events of round ${round} of job ${name} are missing, because the coordinator was restored from an old backup; they are missing up to round ${event.round}`,
        { round, before: event.before, after: event.round },
        { next: `choose a round after ${event.round} with --round, or a moment with --at` },
      );
    }
    found = momentAfter(found, event);
    const text = lines.line(event);
    if (text !== null) newest.push({ at: event.at, text });
    if (newest.length > SHOWN_EVENTS) newest.shift();
  }
  // A ban can end after the newest event before the chosen moment.
  if (round === undefined) found = atTime(found, at === undefined ? now : until);
  if (json) {
    const { present, bans: _, ...facts } = found;
    const nodes = [...present].map(([peer, nodeName]) => ({ peer, name: nodeName }));
    const banned = bannedPeers(found);
    return printJson(context, { schemaVersion: 1, job, name, ...facts, present: nodes, banned });
  }
  printLines(context, [
    ...momentLines(name, found),
    ...(newest.length === 0 ? [] : ['', 'events before this moment']),
    ...newest.map((event) => `${new Date(event.at).toISOString()}  ${event.text}`),
  ]);
}
