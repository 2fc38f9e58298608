import { isAbsolute, relative } from 'node:path';
import { safeJson, safeText } from '../common/text.ts';
import type { SwarmError } from '../index.ts';
import { withCommandName } from './command-name.ts';
import type { Context, Output } from './context.ts';
import { type Failure, failureLines } from './errors.ts';
import { shownProgress } from './shown-progress.ts';

/** A label at the beginning of a line, with the spaces before the text of the line. */
const LABEL = /^ {0,4}\S+(?: \S+)? {2,}(?=\S)|^\S{11} (?=\S)/;

/** Maximum width of a label. Texts below a wider label would be too narrow. */
const LABEL_COLUMNS = 16;

/** Matches a command in quotation marks or after a colon. Users copy it as a whole, so its line does not break in it. */
const COMMAND = /"(?:npx )?lora-swarm [^"]+"|(?<=: )(?:npx )?lora-swarm .+$/g;
/** Matches the space between a number and its unit, which belong together. */
const UNIT_SPACE = /(?<=\d) (?=(?:ms|s|min|h|d|[kMGT]?B|tokens)\b|%)/g;
/** Stands for a space at which a line does not break. Sanitised texts do not contain this character. */
const KEPT_SPACE = '\u0000';

/** Maximum length of a note, in characters. Notes quote models, adapters and data, whose texts can have any length. */
const NOTE_CHARACTERS = 2000;

/**
 * Prints lines to stdout as they are, for example lines of YAML. Sanitises them, because they can contain texts of models,
 * data and peers.
 */
export function printWhole({ stdout }: Pick<Context, 'stdout'>, lines: Iterable<string>): void {
  for (const line of lines) stdout.write(`${safeText(line, { maxCharacters: Number.POSITIVE_INFINITY })}\n`);
}

/**
 * Prints lines to stdout, sanitised as in {@link printWhole}. In a terminal, lines that are too long break at spaces. The
 * continuation of a line begins below the text after its label, or else after two spaces.
 */
export function printLines({ stdout }: Pick<Context, 'stdout'>, lines: Iterable<string>): void {
  for (const line of lines) {
    const label = LABEL.exec(line)?.[0].length ?? 0;
    printWrapped({ stdout }, [line], label > 0 && label <= LABEL_COLUMNS ? label : 2);
  }
}

/** Returns the path that a user would type for a file or folder: relative if it is inside the current folder. */
export function shownPath({ cwd }: Pick<Context, 'cwd'>, path: string): string {
  const short = relative(cwd, path);
  return short.startsWith('..') || isAbsolute(short) ? path : short || '.';
}

/** Number of columns that a line of stdout may have; unlimited if stdout is not a terminal. */
export function terminalColumns({ stdout }: Pick<Context, 'stdout'>): number {
  return columnsOf(stdout);
}

/** Number of columns that a line of an output may have; unlimited if it is not a terminal. */
export function columnsOf({ isTTY, columns }: Pick<Output, 'isTTY' | 'columns'>): number {
  return isTTY ? columns - 1 : Number.POSITIVE_INFINITY;
}

/**
 * Prints lines as {@link printLines} does.
 * @param indent number of spaces before the continuation of a line
 */
export function printWrapped(
  { stdout }: Pick<Context, 'stdout'>,
  lines: Iterable<string>,
  indent: number,
): void {
  const columns = terminalColumns({ stdout });
  printWhole(
    { stdout },
    [...lines].flatMap((line) => brokenLine(line, { columns, indent })),
  );
}

/**
 * Breaks a line that is too long at spaces, but neither in a command (see COMMAND) nor between a number and its unit.
 * @param options.columns maximum length of a line
 * @param options.indent number of spaces before the continuation of the line
 */
export function brokenLine(line: string, limits: { columns: number; indent: number }): string[] {
  if (line.length <= limits.columns) return [line];
  const { columns } = limits;
  // In a narrow terminal, the continuation needs room for its text.
  const indent = Math.max(0, Math.min(limits.indent, Math.floor(columns / 2)));
  const kept = line
    .replace(COMMAND, (command) => command.replaceAll(' ', KEPT_SPACE))
    .replace(UNIT_SPACE, KEPT_SPACE);
  return brokenAtSpaces(kept, { columns, indent }).map((part) => part.replaceAll(KEPT_SPACE, ' '));
}

function brokenAtSpaces(line: string, { columns, indent }: { columns: number; indent: number }): string[] {
  if (line.length <= columns) return [line];
  const before = line.lastIndexOf(' ', columns);
  const after = line.indexOf(' ', columns);
  const word = line.slice(before + 1, after < 0 ? undefined : after);
  // A word that is too long for any line, such as an invite, is neither broken nor moved, so that it can be copied.
  const isLong = before <= indent || line.slice(0, before).trim() === '' || word.length > columns - indent;
  const at = isLong ? after : before;
  if (at < 0) return [line];
  const rest = `${' '.repeat(indent)}${line.slice(at).trimStart()}`;
  return [line.slice(0, at).trimEnd(), ...brokenAtSpaces(rest, { columns, indent })];
}

/** Prints lines with colours to stdout. The caller must have sanitised every untrusted text in the lines. */
export function printPainted({ stdout }: Pick<Context, 'stdout'>, lines: Iterable<string>): void {
  for (const line of lines) stdout.write(`${line}\n`);
}

/** Prints one JSON value on one line to stdout. */
export function printJson({ stdout }: Pick<Context, 'stdout'>, value: object): void {
  stdout.write(`${safeJson(value)}\n`);
}

/** Prints a note to stderr, sanitised as in {@link printWhole}. In a terminal, a long note breaks at spaces. */
export function printNote({ stderr }: Pick<Context, 'stderr'>, text: string): void {
  const line = `lora-swarm: ${safeText(text, { maxCharacters: NOTE_CHARACTERS })}`;
  stderr.write(`${brokenError(line, stderr).join('\n')}\n`);
}

/** Prints an error and its advice to stderr. In a terminal, long lines break at spaces, but not in a command. */
export function printFailure({ stderr }: Pick<Context, 'stderr'>, failure: Failure): void {
  const lines = failureLines(failure).flatMap((line) => brokenError(line, stderr));
  stderr.write(`${lines.join('\n')}\n`);
}

/** Breaks a line for stderr. The continuation begins below the text after "lora-swarm: " or "  next: ". */
function brokenError(line: string, stderr: Output): string[] {
  return brokenLine(line, { columns: columnsOf(stderr), indent: line.indexOf(': ') + 2 });
}

/** Prints a warning with its advice to stderr. */
export function printWarning(
  context: Pick<Context, 'stderr'>,
  { message, next }: Pick<SwarmError, 'message' | 'next'>,
): void {
  printNote(context, `${message}${next === null ? '' : `; ${withCommandName(next)}`}`);
}

/** Formats the local time of day: "14:03:59". @param time milliseconds since 1970 */
export function timeOfDay(time: number): string {
  return new Date(time).toTimeString().slice(0, 8);
}

/** Formats a local date and time: "Fri Nov 27 14:03". @param time milliseconds since 1970 */
export function dateAndTime(time: number): string {
  const date = new Date(time);
  return `${date.toDateString().slice(0, 10)} ${date.toTimeString().slice(0, 5)}`;
}

/** Minimum time between two progress lines in a pipe or file, where a line cannot be overwritten. */
const PLAIN_INTERVAL_MS = 5_000;

/**
 * A sanitised line of progress on stderr. A terminal overwrites it. Elsewhere, a new line appears at most every 5 s, and the
 * newest text follows at the end. Work that takes less than 5 s prints nothing there.
 */
export class ProgressLine {
  readonly #context: Pick<Context, 'stderr' | 'clock'>;
  /** Time of the next line outside a terminal; null if nothing was shown since the last `clear`. */
  #nextAt: number | null = null;
  /** The newest text that was not printed; null if there is none. */
  #unprinted: string | null = null;
  /** Whether a line was printed outside a terminal since the last `clear`. */
  #hasPrinted = false;

  constructor(context: Pick<Context, 'stderr' | 'clock'>) {
    this.#context = context;
  }

  update(untrusted: string): void {
    const { stderr, clock } = this.#context;
    const text = safeText(untrusted);
    if (stderr.isTTY) {
      stderr.write(`\r\u001b[K${text.slice(0, stderr.columns - 1)}`);
      shownProgress.add(this);
      return;
    }
    const now = clock.now();
    this.#nextAt ??= now + PLAIN_INTERVAL_MS;
    this.#unprinted = text;
    if (now < this.#nextAt) return;
    this.#nextAt = now + PLAIN_INTERVAL_MS;
    this.#printPlain();
  }

  /**
   * Ends the progress. Erases the line in a terminal, so that the next output starts in column 1. Elsewhere, prints the
   * newest text if earlier lines were printed, so that the last line is not one from the middle of the work.
   */
  clear(): void {
    if (shownProgress.delete(this)) this.#context.stderr.write('\r\u001b[K');
    if (this.#hasPrinted) this.#printPlain();
    this.#nextAt = null;
    this.#unprinted = null;
    this.#hasPrinted = false;
  }

  #printPlain(): void {
    if (this.#unprinted !== null) this.#context.stderr.write(`${this.#unprinted}\n`);
    this.#unprinted = null;
    this.#hasPrinted = true;
  }
}
