import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkReport, inspectionPage } from '../../../../cli/data/html.ts';
import { inspectionLines } from '../../../../cli/data/terminal.ts';
import type { Inspection } from '../../../../lora/data/inspect/inspection.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { inspectionCounts } from '../../../utils/inspection.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'inspect-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Control characters, and one that reverses the text direction. */
const COMMANDS = /[^\P{Cc}\n]|\u202e/u;
const HOSTILE = `</pre><script>alert("1")</script>'&\u001b[31m\u202eevil`;

function inspection(overrides: Partial<Inspection> = {}): Inspection {
  const counts = inspectionCounts();
  const sample = counts.samples[0]!;
  const tokens = sample.tokens.map((token) => (token.id === 6 ? { ...token, text: HOSTILE } : token));
  const samples = [{ ...sample, origin: { file: HOSTILE, row: 3 }, tokens }];
  return { ...counts, samples, findings: [], ...overrides };
}

describe('the terminal', () => {
  const lines = (color: boolean, tokens = false) => {
    const output = { ...fakeContext().context.stdout, color };
    return inspectionLines(inspection(), { tokens }, output).join('\n');
  };

  it('marks trained tokens if there are no colours', () => {
    expect(lines(false)).toContain('Say⏎\n【</pre>');
    expect(lines(false)).toContain('│ yes】 no');
  });

  it('lists a few duplicates and counts the others', () => {
    const place = (row: number) => ({ file: 'a', row });
    const duplicates = { count: 3, sampledOneIn: 1, named: [{ origin: place(9), first: place(1) }] };
    const output = fakeContext().context.stdout;
    const text = inspectionLines(inspection({ duplicates }), { tokens: false }, output).join('\n');
    expect(text).toMatch(/\ba:9\b.*\ba:1\n +.*\b2\b/);
  });

  it('shows one token per line on request', () => {
    expect(lines(false, true)).toMatch(/ 0 +5 {2}· +"Say\\n"/);
    expect(lines(false, true)).toMatch(/ 2 +7 {2}trained {2}" yes"/);
  });

  it('colours trained tokens, and passes no control characters of the data', () => {
    expect(lines(true)).toContain('\u001b[32m');
    expect(stripVTControlCharacters(lines(true))).not.toMatch(COMMANDS);
    for (const text of [lines(false), lines(false, true)]) expect(text).not.toMatch(COMMANDS);
  });
});

describe('the HTML report', () => {
  const page = () =>
    inspectionPage(
      inspection({ findings: [{ level: 'note', code: 'X', message: HOSTILE, next: HOSTILE }] }),
      { title: HOSTILE, facts: [['model', HOSTILE]] },
    );

  it('contains no script, link or control character, whatever the data contains', () => {
    const html = page();
    expect(html).not.toMatch(/<script|<img|<link|src=|href=|javascript:/i);
    expect(html).not.toMatch(COMMANDS);
    expect(html).toContain("default-src 'none'");
    expect(html.match(/<pre>/g)).toHaveLength(1);
    expect(html.match(/<\/pre>/g)).toHaveLength(1);
    expect(html).toContain('<span class="t" title="7"> yes</span>');
  });

  it('closes every element, with and without samples', () => {
    const empty = { ...inspection().lengths!, histogram: [{ from: 0, to: 9, samples: 0 }] };
    const bare = inspectionPage(inspection({ samples: [], lengths: empty }), { title: 'x', facts: [] });
    expect(bare).not.toContain('<h2>Samples');
    expect(bare).not.toContain('NaN');
    for (const html of [page(), bare]) {
      const open: string[] = [];
      // The text contains no "<", because "<" is escaped.
      for (const [, slash, name] of html.matchAll(/<(\/?)([a-z0-9]+)[^>]*>/g)) {
        if (name === 'meta') continue;
        if (slash === '') open.push(name!);
        else expect(open.pop()).toBe(name);
      }
      expect(open).toEqual([]);
    }
  });

  it('replaces an earlier report, but no other file', async () => {
    const [report, data] = [join(dir, 'report.html'), join(dir, 'data.jsonl')];
    await checkReport(report);
    // The check creates no file.
    await expect(access(report)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(report, page());
    await checkReport(report);
    await writeFile(data, '{"text": "mine"}\n');
    await expect(checkReport(data)).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
    await expect(checkReport(join(dir, 'nowhere', 'report.html'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
