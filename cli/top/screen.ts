import { styleText } from 'node:util';
import type { Output } from '../context.ts';
import type { FrameLine, Tone } from './lines.ts';

/** Control sequences of terminals (ECMA-48, and the private modes of xterm). */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const TO_FIRST_ROW = '\u001b[H';
const ERASE_LINE = '\u001b[K';
const ERASE_BELOW = '\u001b[J';

const STYLES: Readonly<Record<Tone, Parameters<typeof styleText>[0]>> = {
  title: 'bold',
  green: 'green',
  yellow: 'yellow',
  red: 'red',
  dim: 'dim',
};

/**
 * The whole screen of a terminal. Uses the terminal's alternate screen buffer, so that `leave` restores the text that the
 * user saw before.
 */
export class FullScreen {
  readonly #output: Output;
  #shown = '';
  #isEntered = false;

  constructor(output: Output) {
    this.#output = output;
  }

  enter(): void {
    if (!this.#isEntered) this.#output.write(ENTER);
    this.#isEntered = true;
  }

  /** Shows a frame. Writes nothing if the frame is on the screen already. */
  draw(lines: readonly FrameLine[]): void {
    if (!this.#isEntered) return;
    const text = lines.map((line) => `${painted(line, this.#output.color)}${ERASE_LINE}`).join('\r\n');
    if (text === this.#shown) return;
    // Writes everything in one call, so that the terminal never shows a half-drawn frame.
    this.#output.write(`${TO_FIRST_ROW}${text}${ERASE_BELOW}`);
    this.#shown = text;
  }

  /** Makes the next call of `draw` write its frame, for example because the size of the terminal has changed. */
  forget(): void {
    this.#shown = '';
  }

  /** Returns to the normal screen buffer and shows the cursor again. Idempotent. */
  leave(): void {
    if (this.#isEntered) this.#output.write(LEAVE);
    this.#isEntered = false;
  }
}

/** Returns a line with its colour. */
function painted({ text, tone }: FrameLine, color: boolean): string {
  // `color` already says whether to use colours, so styleText must not check the stream and the environment again.
  return color && tone !== undefined ? styleText(STYLES[tone], text, { validateStream: false }) : text;
}
