import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import type { Context } from '../../../../cli/context.ts';
import {
  badRowLines,
  badRowSummary,
  firstRows,
  printRefusedRows,
  tallyLines,
} from '../../../../cli/data/bad-rows.ts';
import { addDataOptions, type DataFlags, dataSettings } from '../../../../cli/options/data.ts';
import { newTally } from '../../../../lora/data/packing/tally.ts';
import { DEFAULT_BAD_ROW_SHARE, RowReport } from '../../../../lora/data/row-report.ts';
import { dataSettingsSchema } from '../../../../lora/data/settings.ts';
import { withCode } from '../../../utils/source/codes.ts';

function settings(...words: string[]) {
  const command = addDataOptions(new Command(), { packing: true })
    .exitOverride()
    .configureOutput({
      writeErr: () => {},
    });
  command.parse(words, { from: 'user' });
  return dataSettings(command.opts<DataFlags>(), '/work');
}

describe('the options of data', () => {
  it('have the same defaults as a job', () => {
    expect(settings()).toEqual(dataSettingsSchema.parse({}));
    expect(settings().badRowShare).toBe(DEFAULT_BAD_ROW_SHARE);
  });

  it('set columns, variables, and a template by name or relative to the working folder', () => {
    expect(
      settings(
        ...['--column', 'messages=dialog', '--column', 'role=who', '--format', 'messages', '--bad-rows', '0'],
        ...[
          '--template-variable',
          'thinking=false',
          '--template-variable',
          'n=3',
          '--template-variable',
          'x=a=b',
        ],
        ...['--template', 'chat.jinja', '--train-on', 'all', '--packing', 'none'],
      ),
    ).toMatchObject({
      format: 'messages',
      columns: { messages: 'dialog', role: 'who' },
      templateVariables: { thinking: false, n: 3, x: 'a=b' },
      template: '/work/chat.jinja',
      trainOn: 'all',
      packing: 'none',
      badRowShare: 0,
    });
    expect(settings('--template', 'chatml').template).toBe('chatml');
  });

  it.each([
    ['--column', 'messages'],
    ['--column', '=x'],
    ['--template-variable', 'x'],
    ['--format', 'xml'],
    ['--bad-rows', '2'],
  ])('refuse the flag %s %s', (...words) => {
    expect(() => settings(...words)).toThrow(withCode('commander.invalidArgument'));
  });
});

describe('rows that were left out', () => {
  it('are reported one by one at first, then only in the summary', () => {
    const named: number[] = [];
    const report = new RowReport({
      badRowShare: 1,
      onBad: firstRows(({ origin }) => named.push(origin.row)),
    });
    expect(badRowSummary(report.summary())).toBeNull();
    for (let row = 1; row <= 1200; row++) {
      report.see();
      if (row % 50 === 0)
        report.bad({ origin: { file: 'f', row }, code: row > 1000 ? 'ROW_B' : 'ROW_A', reason: '' });
    }
    expect(named).toEqual([50, 100, 150, 200, 250, 300, 350, 400, 450, 500]);
    expect(badRowSummary(report.summary())).toMatch(/^24 of 1,200 .*\b20 ROW_A\b.*\b4 ROW_B$/);
    const lines = badRowLines(report.summary());
    expect(lines).toHaveLength(15);
    expect(lines[10]).toMatch(/\b10\b.*\bROW_A$/);
  });

  it('are printed if there are too many of them', () => {
    const report = new RowReport();
    report.see();
    report.bad({ origin: { file: 'f', row: 7 }, code: 'ROW_A', reason: 'odd' });
    const printed: string[] = [];
    const stderr = { isTTY: false, columns: 80, write: (text: string) => void printed.push(text) };
    let error: unknown;
    try {
      report.finish();
    } catch (thrown) {
      error = thrown;
    }
    printRefusedRows({ stderr } as unknown as Context, error);
    expect(printed.join('')).toMatch(/f:7: ROW_A/);
  });

  it('are followed by a line about changed samples', () => {
    expect(tallyLines(newTally())).toEqual([]);
    const untrainedRows = [{ origin: { file: 'f', row: 7 }, reason: 'no answer' }];
    const lines = tallyLines({ ...newTally(), samples: 9, truncated: 2, untrained: 1, untrainedRows });
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/^f:7: /);
    expect(tallyLines({ ...newTally(), samples: 1, truncated: 1 })[0]).toMatch(/\b1 sample\b/);
  });
});
