import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatBytes,
  formatChange,
  formatDuration,
  formatFigure,
  lossPicture,
  rounded,
  roundText,
  safeText,
  table,
} from '../../../common/text.ts';

it.each([
  [0.86, '0.8600'],
  [0, '0.0000'],
  [-12.345678, '-12.3457'],
  [8738.8448, '8738.84'],
  [240713.6817, '240714'],
  [17049771138.3211, '1.705e10'],
  [1.0473110411909363e72, '1.047e72'],
  [0.00012346, '1.235e-4'],
  [Number.NaN, 'NaN'],
])('formats the figure %d with few digits', (figure, text) => {
  expect(formatFigure(figure)).toBe(text);
});

it('rounds a large figure, but no count', () => {
  expect([rounded(1.0473110411909363e72), rounded(123_456), rounded(0.123456)]).toEqual([
    1.0473e72, 123_456, 0.12346,
  ]);
});

describe('safeText', () => {
  it('removes control and direction characters from any string', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.boolean(), (text, multiline) => {
        const safe = safeText(text, { multiline });
        const kept = multiline ? safe.replace(/[\n\t]/g, '') : safe;
        expect(kept).not.toMatch(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b-\u200f]/u);
        expect(safe.length).toBeLessThanOrEqual(300);
      }),
    );
  });

  it('neutralises escape sequences and forged lines', () => {
    expect(safeText('ok\u001b[2Jgone')).toBe('ok·[2Jgone');
    expect(safeText('a\r\nswarm: all is well')).toBe('a swarm: all is well');
    expect(safeText('plain text, ümlauts, 日本 and 🦦')).toBe('plain text, ümlauts, 日本 and 🦦');
  });
});

describe('numbers', () => {
  it('formats bytes with at most three digits', () => {
    expect([0, 999, 1000, 1234, 34_000_000, 999_600].map(formatBytes)).toEqual([
      '0 B',
      '999 B',
      '1.0 kB',
      '1.2 kB',
      '34 MB',
      '1.0 MB',
    ]);
  });

  it('formats durations at every scale', () => {
    expect([0.42, 18.2, 134, 6720, 273_600].map(formatDuration)).toEqual([
      '0.4 s',
      '18 s',
      '2 min 14 s',
      '1 h 52 min',
      '3 d 4 h',
    ]);
  });

  it('formats changes with their sign', () => {
    expect([formatChange(-0.01234), formatChange(0.004)]).toEqual(['−0.0123', '+0.0040']);
  });
});

describe('charts and tables', () => {
  it('draws a column per loss, shorter for a lower loss', () => {
    const lines = lossPicture(
      [4.6, 4.4, 4.2, 4.0].map((loss, i) => ({ label: String(i), loss })),
      4,
    );
    expect(lines).toHaveLength(5);
    const filled = [0, 1, 2, 3].map(
      (column) => lines.filter((l) => /[▁-█]/.test(l[9 + column * 2] ?? '')).length,
    );
    expect(filled[0]).toBe(4);
    expect(filled.toSorted((a, b) => b - a)).toEqual(filled);
    expect(filled.at(-1)).toBeGreaterThan(0);
  });

  it('keeps the total number of rounds after null rounds', () => {
    const text = (round: number, roundsDone: number) => roundText(round, { rounds: 40, roundsDone });
    expect(text(0, 0)).toBe('round 0 of 40');
    expect(text(21, 20)).toBe('round 21 of 40');
    expect(text(40, 40)).toBe('round 40 of 40');
    expect(text(21, 18)).toMatch(/\b21\b.*\b18 of 40\b/);
    expect(text(41, 40)).toMatch(/\b41\b.*\b40 of 40\b/);
  });

  it('breaks the cells of a table that is too wide at spaces, but no number', () => {
    const rows = [
      ['job', 'variant', 'held-out loss', 'size'],
      ['rates-1', 'optimizer.learningRate = 0.001, lora.rank = 16', '2.1000', '84 kB'],
    ];
    expect(table(rows, { columns: 48 })).toEqual(
      [
        'job      variant                 held-out   size',
        '                                     loss       ',
        'rates-1  optimizer.learningRate    2.1000  84 kB',
        '         = 0.001, lora.rank =',
        '         16',
      ].map((line) => line.trimEnd()),
    );
    expect(table(rows, { columns: 200 })).toEqual(table(rows));
    // The longest words stay whole.
    expect(Math.max(...table(rows, { columns: 10 }).map(({ length }) => length))).toBe(48);
    expect(
      table(
        [
          ['', 'x'],
          ['  indented text', 'y'],
        ],
        { columns: 12 },
      ),
    ).toEqual(['            x', '  indented  y', 'text']);
  });

  it('aligns the columns of a table', () => {
    expect(
      table([
        ['peer', 'bytes'],
        ['otter', '12 kB'],
        ['hen', '1.2 MB'],
      ]),
    ).toEqual(['peer    bytes', 'otter   12 kB', 'hen    1.2 MB']);
  });
});
