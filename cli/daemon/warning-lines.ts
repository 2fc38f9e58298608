import type { LineSink } from '../../monitor/logs/log.ts';
import type { Role } from '../../storage/daemon-home.ts';
import type { Output } from '../context.ts';
import { brokenLine, columnsOf, timeOfDay } from '../print.ts';
import { warningText } from './warning-text.ts';

/** Width of the time at the beginning of a line, in columns. */
const TIME = 10;

/** Writes the warnings and errors of a daemon's log as plain lines. The log file has all their fields. */
export class WarningLines implements LineSink {
  readonly #sink: Output;
  readonly #role: Role;

  constructor({ role }: { role: Role }, sink: Output) {
    this.#role = role;
    this.#sink = sink;
  }

  /** @param line one log entry, as JSON */
  write(line: string): void {
    const warning = warningText(line, this.#role);
    // Skip warnings about a lost connection, because the node prints another line about it.
    if (warning === null || warning.isDisconnected) return;
    const text = `${timeOfDay(warning.at)}  ! ${warning.text}`;
    const lines = brokenLine(text, { columns: columnsOf(this.#sink), indent: TIME });
    this.#sink.write(`${lines.join('\n')}\n`);
  }
}
