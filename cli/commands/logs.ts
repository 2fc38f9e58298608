import { type Command, Option } from 'commander';
import { resolveHomes } from '../../common/files/user-folders.ts';
import { type LogLevel, logLevels } from '../../monitor/logs/log-levels.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { entryFormat, matches, PeerValues } from '../logs/log-entry.ts';
import {
  appendedEntries,
  type DaemonEntry,
  NewestEntries,
  storedEntries,
  withLogs,
} from '../logs/read-logs.ts';
import { homeOption, integer, jsonOption } from '../options/common.ts';
import { type Moment, moment } from '../options/moment.ts';
import { printNote, printPainted } from '../print.ts';

/** Number of entries that are shown without --lines and --since: a few screens. */
const SHOWN_LINES = 200;

interface LogsOptions {
  home?: string;
  follow?: boolean;
  peer?: string;
  level: LogLevel;
  since?: Moment;
  lines?: number;
  json?: boolean;
}

export function registerLogs(program: Command, context: Context): void {
  program
    .command('logs')
    .description('show the log of the coordinator or node on this machine, whether or not it runs')
    .addOption(homeOption())
    .option('-f, --follow', 'also show new entries, until Ctrl-C')
    .option(
      '--peer <peer>',
      'show only entries about one peer, given by its name, its peer id or the end of the peer id',
    )
    .addOption(new Option('--level <level>', 'lowest level to show').choices(logLevels).default('info'))
    .option(
      '--since <time>',
      'show all entries since this time: a time before now such as 30m, 12h or 7d, or a date such as 2026-11-28T14:30',
      moment,
    )
    .option(
      '-n, --lines <n>',
      `show at most the newest n entries (default: ${SHOWN_LINES}; with --since, no limit)`,
      integer(1),
    )
    .addOption(jsonOption())
    .action((options: LogsOptions) => logs(context, options));
}

async function logs(context: Context, options: LogsOptions): Promise<void> {
  const { home, follow = false, peer, level, json = false } = options;
  const { environment, cwd, clock, signal, stdout } = context;
  const homes = resolveHomes(home, environment, cwd);
  const about = peer === undefined ? null : new PeerValues(peer);
  // Reads all entries first, because the entry with both the name and the id of a peer may follow other entries.
  if (about !== null) {
    await withLogs(homes, (found) => storedEntries(found, ({ entry }) => about.read(entry)));
    if (!about.isFound) {
      const message = `no entry of the log is about a peer "${peer}"`;
      const next = 'give the name or the end of the peer id of a peer that "lora-swarm logs" names';
      if (!follow) throw cliError('PEER_NOT_FOUND', message, { peer }, { next });
      printNote(context, message);
    }
  }
  await withLogs(homes, async (found) => {
    const format = entryFormat({ json, color: stdout.color });
    // If both daemons of a machine have a log, each line says which daemon wrote it.
    const isNamed = found.length > 1 && !json;
    const show = ({ role, entry }: DaemonEntry): void =>
      printPainted(context, [`${isNamed ? `${role.padEnd(11)} ` : ''}${format(entry)}`]);
    const since = options.since?.(clock.now()) ?? Number.NEGATIVE_INFINITY;
    const filter = { level, since, values: about === null ? null : about.values };
    const limit = options.lines ?? (options.since === undefined ? SHOWN_LINES : Number.POSITIVE_INFINITY);
    const newest = new NewestEntries(filter, { limit });
    await storedEntries(found, (one) => newest.add(one));
    for (const one of newest.entries) show(one);
    if (!follow) return;
    for await (const one of appendedEntries(found, { signal })) {
      about?.read(one.entry);
      if (matches(one.entry, filter)) show(one);
    }
  });
}
