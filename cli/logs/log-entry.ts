import { safeJson, safeText } from '../../common/text.ts';
import { safeFields } from '../../monitor/logs/log-fields.ts';
import { prettyFormat } from '../../monitor/logs/log-format.ts';
import { type LogLevel, logLevels } from '../../monitor/logs/log-levels.ts';

/** One line of a log file. */
export interface LogEntry {
  /** Time of the entry in milliseconds since 1970; null if the line is damaged. */
  readonly at: number | null;
  /** Fields of the entry; null if the line is damaged, for example because a crash cut it. */
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly text: string;
}

/** Conditions that an entry must meet to be shown. */
export interface EntryFilter {
  /** Least severe level that is shown. */
  readonly level: LogLevel;
  /** Time of the oldest entry that is shown, in milliseconds since 1970. */
  readonly since: number;
  /** Texts to look for. A field of the entry must be equal to one of them. Null if fields are not compared. */
  readonly values: ReadonlySet<string> | null;
}

export function readEntry(text: string): LogEntry {
  try {
    const fields: unknown = JSON.parse(text);
    if (typeof fields === 'object' && fields !== null) {
      const { time } = fields as { time?: unknown };
      const at = typeof time === 'string' ? Date.parse(time) : Number.NaN;
      if (!Number.isNaN(at)) return { at, fields: fields as Record<string, unknown>, text };
    }
  } catch {
    // A crash can cut the last line of a log. The line is then shown unchanged.
  }
  return { at: null, fields: null, text };
}

/**
 * Returns whether an entry is shown. A damaged line has no time and no fields to compare. It is shown only if the
 * filter limits neither time nor values.
 */
export function matches({ at, fields }: LogEntry, { level, since, values }: EntryFilter): boolean {
  if (fields === null || at === null) return values === null && since === Number.NEGATIVE_INFINITY;
  if (at < since) return false;
  const severity = logLevels.indexOf(fields.level as LogLevel);
  if (severity !== -1 && severity < logLevels.indexOf(level)) return false;
  return values === null || namesOneOf(fields, values);
}

/**
 * Collects the texts that name a peer in a log: the given text, and the whole peer id. It learns the peer id from entries
 * such as `peer-joined`, which have both the name and the peer id.
 * @param peer name, peer id or the end of a peer id
 */
export class PeerValues {
  readonly values: Set<string>;
  readonly #peer: string;
  #isFound = false;

  constructor(peer: string) {
    // Other commands print the end of a peer id as "…x7Qk".
    this.#peer = peer.replace(/^…/, '');
    this.values = new Set([this.#peer]);
  }

  /** Whether an entry that was read is about the peer. */
  get isFound(): boolean {
    return this.#isFound;
  }

  read({ fields }: LogEntry): void {
    const { peer, name } = fields ?? {};
    if (typeof peer === 'string' && (name === this.#peer || peer.endsWith(this.#peer))) this.values.add(peer);
    this.#isFound ||= namesOneOf(fields ?? {}, this.values);
  }
}

function namesOneOf(fields: NonNullable<LogEntry['fields']>, values: ReadonlySet<string>): boolean {
  return Object.values(fields).some((value) => typeof value === 'string' && values.has(value));
}

/** Returns a function that formats entries: as JSON, or as text for people. */
export function entryFormat({ json, color }: { json: boolean; color: boolean }): (entry: LogEntry) => string {
  if (json) return ({ fields, text }) => safeJson(fields ?? { damaged: text });
  const format = prettyFormat(color);
  return ({ fields, text }) => (fields === null ? safeText(text) : format(safeFields(fields)).trimEnd());
}
