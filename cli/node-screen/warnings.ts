import { safeText } from '../../common/text.ts';
import type { LineSink } from '../../monitor/log.ts';

/** A warning that was logged, and that the screen of a node shows. */
export interface ScreenWarning {
  readonly text: string;
  /** Number of times that the warning was logged. */
  readonly count: number;
  /** Time at which the warning was last logged, in milliseconds since 1970. */
  readonly at: number;
}

/** Warnings that are not in the list of warnings, because other lines of the screen show them. */
const SHOWN_ELSEWHERE = new Set([
  'peer-unreachable',
  'join-failed',
  'standing-changed',
  'shut-out',
  'home-made-private',
]);

/** Texts for warnings whose name in the log does not explain itself. */
const WORDS: Readonly<Record<string, string>> = {
  'sync-failed': 'could not fetch the adapter',
  'train-failed': 'training failed',
  'build-update-failed': 'could not make the update',
  'trainer-restarted': 'the trainer process ended and was started again',
  'device-lost': 'a device failed',
  'poll-failed': 'asked the coordinator for the newest round, without an answer',
  'ask-failed': 'asked the coordinator for a receipt, without an answer',
  'submit-failed': 'could not send an update',
  'update-forgotten': 'the coordinator has an update that this home does not know',
  'offer-to-score-not-taken': '--score has no effect: the invite has another role than operator',
  'witness-failed': 'could not verify a checkpoint',
  'witness-found-problem': 'the verification of a checkpoint found a problem',
  'traffic-not-stored': 'could not store the traffic of this month',
};

/** Maximum number of different warnings that are remembered. */
const REMEMBERED = 16;

/** Takes the lines that the log writes to a terminal, and keeps them for the screen. */
export class ScreenWarnings implements LineSink {
  /** The remembered warnings by their text, the newest last. */
  readonly #warnings = new Map<string, ScreenWarning>();

  /** @param line one log entry, as JSON */
  write(line: string): void {
    const entry = JSON.parse(line) as Record<string, unknown>;
    const action = String(entry.msg);
    if (SHOWN_ELSEWHERE.has(action)) return;
    const text = textOf(action, entry);
    const count = (this.#warnings.get(text)?.count ?? 0) + 1 + Number(entry.repeated ?? 0);
    this.#warnings.delete(text);
    this.#warnings.set(text, { text, count, at: Date.parse(String(entry.time)) });
    if (this.#warnings.size > REMEMBERED) this.#warnings.delete(this.#warnings.keys().next().value!);
  }

  /** Returns the newest warnings, newest first. @param since milliseconds since 1970 */
  newest(limit: number, since: number): ScreenWarning[] {
    const recent = [...this.#warnings.values()].filter(({ at }) => at >= since);
    return recent.reverse().slice(0, limit);
  }
}

function textOf(action: string, { reason, error, round }: Record<string, unknown>): string {
  const words = WORDS[action] ?? action.replaceAll('-', ' ');
  const why = typeof reason === 'string' ? reason : errorText(error);
  const where = typeof round === 'number' ? ` (round ${round})` : '';
  return safeText(`${words}${where}${why === '' ? '' : `: ${why}`}`);
}

function errorText(error: unknown): string {
  if (typeof error === 'string') return error;
  if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message);
  return '';
}
