import { setTimeout as sleep } from 'node:timers/promises';
import type { Role } from '../../storage/daemon-home.ts';
import { logFileOf } from '../daemon/log.ts';
import { cliError } from '../error-codes.ts';
import { type EntryFilter, type LogEntry, matches, readEntry } from './log-entry.ts';
import { LogFileReader } from './log-file-reader.ts';

/** Time between two checks of the file for new lines, in milliseconds. */
const POLL_MS = 250;

/** An entry of the log of a daemon. */
export interface DaemonEntry {
  readonly role: Role;
  readonly entry: LogEntry;
}

/** The log of one daemon. */
export interface DaemonLog {
  readonly role: Role;
  readonly reader: LogFileReader;
  readonly path: string;
}

/**
 * Opens the logs in the homes, and closes them when `work` has ended.
 * @throws SwarmError LOG_NOT_FOUND if no home has a log
 */
export async function withLogs(
  homes: Readonly<Record<Role, string>>,
  work: (logs: readonly DaemonLog[]) => Promise<void>,
): Promise<void> {
  const logs = await openLogs(homes);
  try {
    await work(logs);
  } finally {
    for (const { reader } of logs) await reader.close();
  }
}

async function openLogs(homes: Readonly<Record<Role, string>>): Promise<DaemonLog[]> {
  const paths = (['coordinator', 'node'] as const).map((role) => ({
    role,
    path: logFileOf(homes[role], role),
  }));
  const opened = await Promise.all(
    paths.map(async ({ role, path }) => ({ role, path, reader: await LogFileReader.open(path) })),
  );
  const found = opened.flatMap(({ reader, ...log }) => (reader === null ? [] : [{ ...log, reader }]));
  if (found.length > 0) return found;
  const files = paths.map(({ path }) => path);
  throw cliError(
    'LOG_NOT_FOUND',
    `there is no log: neither ${files.join(' nor ')} exists`,
    { files },
    {
      next: 'name the home folder of the coordinator or node with --home; a daemon creates its log when it starts',
    },
  );
}

/** Reads all entries of the logs, including those in rotated files, in the order of their times. */
export async function storedEntries(
  logs: readonly DaemonLog[],
  onEntry: (entry: DaemonEntry) => void,
): Promise<void> {
  const all: { at: number; found: DaemonEntry }[] = [];
  for (const { role, path, reader } of logs) {
    let at = Number.NEGATIVE_INFINITY;
    const add = (text: string): void => {
      const entry = readEntry(text);
      // A damaged line has no time. It gets the time of the line before it, so that sorting keeps both lines together.
      at = entry.at ?? at;
      if (logs.length === 1) onEntry({ role, entry });
      else all.push({ at, found: { role, entry } });
    };
    const older = await LogFileReader.open(`${path}.1`);
    if (older !== null) {
      for await (const line of older.lines()) add(line);
      if (older.unfinished !== '') add(older.unfinished);
      await older.close();
    }
    for await (const line of reader.lines()) add(line);
  }
  for (const { found } of all.sort((a, b) => a.at - b.at)) onEntry(found);
}

/** Yields the entries that the daemons append, until the signal aborts. */
export async function* appendedEntries(
  logs: readonly DaemonLog[],
  { signal }: { signal: AbortSignal },
): AsyncGenerator<DaemonEntry, void, undefined> {
  while (!signal.aborted) {
    for (const { role, reader } of logs) {
      for await (const line of reader.lines()) yield { role, entry: readEntry(line) };
    }
    // If the signal aborts, the wait and the loop end.
    await sleep(POLL_MS, undefined, { signal }).catch(() => {});
  }
}

/** Keeps the newest entries that match a filter. */
export class NewestEntries {
  readonly #filter: EntryFilter;
  readonly #limit: number;
  #kept: DaemonEntry[] = [];

  constructor(filter: EntryFilter, { limit }: { limit: number }) {
    this.#filter = filter;
    this.#limit = limit;
  }

  add(found: DaemonEntry): void {
    if (!matches(found.entry, this.#filter)) return;
    this.#kept.push(found);
    if (this.#kept.length >= 2 * this.#limit) this.#kept = this.#kept.slice(-this.#limit);
  }

  get entries(): readonly DaemonEntry[] {
    return this.#kept.slice(-this.#limit);
  }
}
