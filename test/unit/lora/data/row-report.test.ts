import { describe, expect, it } from 'vitest';
import { RowReport } from '../../../../lora/data/row-report.ts';

const bad = (file: string, row: number) => ({ origin: { file, row }, code: 'ROW_ROLE', reason: 'r' });
const listed = (report: RowReport): string[] =>
  report.summary().reasons[0]!.rows.map(({ origin }) => `${origin.file}:${origin.row}`);

describe('the listed bad records', () => {
  it('are the first ones in the order of files and rows, in whatever order they are reported', () => {
    const report = new RowReport({ badRowShare: 0.5 });
    for (const file of ['z', 'a']) report.begin(file);
    for (const row of [51, 64, 15, 18, 43, 48, 82]) report.bad(bad('a', row));
    for (const row of [9, 3, 7, 5]) report.bad(bad('z', row));
    expect(listed(report)).toEqual([
      'z:3',
      'z:5',
      'z:7',
      'z:9',
      ...[15, 18, 43, 48, 51, 64].map((n) => `a:${n}`),
    ]);
    expect(report.summary().reasons[0]!.count).toBe(11);
    expect(() => report.finish()).toThrow('z:3');
  });

  it('include those of a part that was read before', () => {
    const first = new RowReport();
    for (const row of [8, 2]) first.bad(bad('a', row));
    const second = new RowReport({ earlier: first.summary() });
    const reading = second.again();
    for (const file of ['z', 'a']) {
      reading.begin(file);
      reading.see();
      reading.bad(bad(file, 1));
      second.bad(bad(file, 4));
    }
    expect(listed(second)).toEqual(['z:4', 'a:2', 'a:4', 'a:8']);
    expect(second.summary()).toMatchObject({ rows: 0, bad: 4 });
  });
});
