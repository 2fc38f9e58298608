import type { Context } from './context.ts';

/** Data for people, one line at a time, to stdout. */
export function printLines({ stdout }: Pick<Context, 'stdout'>, lines: Iterable<string>): void {
  for (const line of lines) stdout.write(`${line}\n`);
}

/** One JSON value on one line. */
export function printJson({ stdout }: Pick<Context, 'stdout'>, value: object): void {
  stdout.write(`${JSON.stringify(value)}\n`);
}

/** Least time between two progress lines where they cannot be overwritten (pipes, files). */
const PLAIN_INTERVAL_MS = 5_000;

/** One line of progress on stderr that is overwritten in a terminal and repeated now and then elsewhere. */
export class ProgressLine {
  readonly #context: Pick<Context, 'stderr' | 'clock'>;
  #shown = false;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(context: Pick<Context, 'stderr' | 'clock'>) {
    this.#context = context;
  }

  update(text: string): void {
    const { stderr, clock } = this.#context;
    if (stderr.isTTY) {
      stderr.write(`\r\u001b[K${text.slice(0, stderr.columns - 1)}`);
      this.#shown = true;
    } else if (clock.now() - this.#lastAt >= PLAIN_INTERVAL_MS) {
      this.#lastAt = clock.now();
      stderr.write(`${text}\n`);
    }
  }

  /** Takes the line away; what is printed next begins at the margin. */
  clear(): void {
    if (this.#shown) this.#context.stderr.write('\r\u001b[K');
    this.#shown = false;
  }
}
