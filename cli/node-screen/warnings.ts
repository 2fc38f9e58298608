import type { LineSink } from '../../monitor/logs/log.ts';
import { type WarningText, warningText } from '../daemon/warning-text.ts';

/** A warning that was logged, and that the screen of a node shows. */
export interface ScreenWarning {
  readonly text: string;
  /** Number of times that the warning was logged. */
  readonly count: number;
  /** Time at which the warning was last logged, in milliseconds since 1970. */
  readonly at: number;
}

/** Maximum number of different warnings that are remembered. */
const REMEMBERED = 16;

/** Takes the lines that the log writes to a terminal, and keeps them for the screen. */
export class ScreenWarnings implements LineSink {
  /** The remembered warnings by their text, the newest last. */
  readonly #warnings = new Map<string, WarningText>();

  /** @param line one log entry, as JSON */
  write(line: string): void {
    const warning = warningText(line, 'node');
    if (warning === null) return;
    const { text } = warning;
    const count = (this.#warnings.get(text)?.count ?? 0) + warning.count;
    this.#warnings.delete(text);
    this.#warnings.set(text, { ...warning, count });
    if (this.#warnings.size > REMEMBERED) this.#warnings.delete(this.#warnings.keys().next().value!);
  }

  /** Removes the warnings about failed requests to the coordinator. */
  dropContact(): void {
    for (const [text, { isContact }] of this.#warnings) if (isContact) this.#warnings.delete(text);
  }

  /** Returns at most `limit` warnings, newest first. Leaves out those before the time `since` (milliseconds since 1970). */
  newest(limit: number, since: number): ScreenWarning[] {
    const recent = [...this.#warnings.values()].filter(({ at }) => at >= since);
    return recent.reverse().slice(0, limit);
  }
}
