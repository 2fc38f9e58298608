import { describe, expect, it } from 'vitest';
import type { Output } from '../../../../cli/context.ts';
import { FullScreen } from '../../../../cli/top/screen.ts';

function terminal(color = false): { output: Output; written: string[] } {
  const written: string[] = [];
  const output = { write: (text: string) => written.push(text), isTTY: true, columns: 80, rows: 24, color };
  return { output: output as unknown as Output, written };
}

describe('the screen of lora-swarm top', () => {
  it('uses the second buffer, draws a frame once, and returns to what was there', () => {
    const { output, written } = terminal();
    const screen = new FullScreen(output);
    screen.draw([{ text: 'too early' }]);
    screen.enter();
    screen.draw([{ text: 'a' }, { text: 'b', tone: 'red' }]);
    screen.draw([{ text: 'a' }, { text: 'b', tone: 'red' }]);
    screen.forget();
    screen.draw([{ text: 'a' }, { text: 'b', tone: 'red' }]);
    screen.leave();
    screen.leave();
    const frame = '\u001b[Ha\u001b[K\r\nb\u001b[K\u001b[J';
    expect(written).toEqual(['\u001b[?1049h\u001b[?25l', frame, frame, '\u001b[?25h\u001b[?1049l']);
  });

  it('colours lines only if the output has colours', () => {
    const { output, written } = terminal(true);
    const screen = new FullScreen(output);
    screen.enter();
    screen.draw([{ text: 'b', tone: 'red' }]);
    expect(written[1]).toContain('\u001b[31mb\u001b[39m');
  });
});
