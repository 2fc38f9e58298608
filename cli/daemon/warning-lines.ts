import type { LineSink } from '../../monitor/logs/log.ts';
import type { Role } from '../../storage/daemon-home.ts';
import { timeOfDay } from '../print.ts';
import { warningText } from './warning-text.ts';

/** Writes the warnings and errors of a daemon's log as plain lines. The log file has all their fields. */
export class WarningLines implements LineSink {
  readonly #sink: LineSink;
  readonly #role: Role;

  constructor({ role }: { role: Role }, sink: LineSink) {
    this.#role = role;
    this.#sink = sink;
  }

  /** @param line one log entry, as JSON */
  write(line: string): void {
    const warning = warningText(line, this.#role);
    // Skip warnings about a lost connection, because the node prints another line about it.
    if (warning === null || warning.isDisconnected) return;
    this.#sink.write(`${timeOfDay(warning.at)}  ! ${warning.text}\n`);
  }
}
