import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkReport, inspectionPage } from '../../../../cli/data/html.ts';
import { inspectionLines } from '../../../../cli/data/terminal.ts';
import { findingsOf } from '../../../../lora/data/inspect/findings.ts';
import type { Inspection } from '../../../../lora/data/inspect/inspection.ts';
import { SpecialTokens } from '../../../../lora/data/inspect/special-tokens.ts';
import { tokenTexts } from '../../../../lora/data/inspect/token-texts.ts';
import { newTally } from '../../../../lora/data/packing/tally.ts';
import { loadTokenizer, type TextTokenizer } from '../../../../lora/data/tokenizer.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { makeTinyModel } from '../../../utils/tiny-model.ts';

let dir: string;
let tokenizer: TextTokenizer;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'inspect-'));
  tokenizer = await loadTokenizer(await makeTinyModel(join(dir, 'model')));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Characters that command a terminal or turn text around. */
const COMMANDS = /[^\P{Cc}\n]|\u202e/u;
const HOSTILE = `</pre><script>alert("1")</script>'&\u001b[31m\u202eevil`;

function inspection(overrides: Partial<Inspection> = {}): Inspection {
  return {
    sequenceLength: 64,
    template: null,
    kinds: { text: 10 },
    read: { rows: 10, bad: 0, reasons: [] },
    heldOutRead: null,
    tally: { ...newTally(), samples: 10, rows: 4, sampleTokens: 240, rowTokens: 230, trainedTokens: 200 },
    fill: 230 / 256,
    lengths: {
      samples: 10,
      mean: 24,
      shortest: 20,
      median: 24,
      p95: 30,
      longest: 30,
      histogram: [{ from: 20, to: 30, samples: 10 }],
    },
    specialTokens: {
      doubleBos: 0,
      withoutBos: 0,
      endWithEos: 10,
      endWithOther: {},
      withoutEnd: 0,
      unknownTokens: 0,
      withUnknown: 0,
    },
    duplicates: { count: 0, sampledOneIn: 1, named: [] },
    overlap: null,
    share: { nodes: 2, rows: 2, trainedTokens: 100, shards: 1, bytes: 1536 },
    samples: [
      {
        origin: { file: HOSTILE, row: 3 },
        kind: 'text',
        tokens: [
          { id: 5, text: 'Say\n', trained: false },
          { id: 6, text: HOSTILE, trained: true },
          { id: 7, text: ' yes', trained: true },
          { id: 8, text: ' no', trained: false },
        ],
        more: 2,
        trained: 3,
      },
    ],
    partial: false,
    ...overrides,
  };
}

const codes = (overrides: Partial<Inspection>, badRowShare = 0.01) =>
  findingsOf(inspection(overrides), { badRowShare }).map(({ level, code }) => `${level} ${code}`);

describe('the texts of tokens', () => {
  it('are together the text, whatever characters are cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const ids = tokenizer.encode(text);
        const shown = tokenTexts(ids, new Uint8Array(ids.length), tokenizer);
        expect(shown.map((token) => token.id)).toEqual(ids);
        expect(shown.map((token) => token.text).join('')).toBe(tokenizer.decode(ids, { special: true }));
      }),
      { examples: [['👩‍👩‍👧 你好'], ['\ufffd\ufffd a']] },
    );
  });
});

describe('special tokens', () => {
  const count = (ids: number[], trained = ids.map(() => 1)) => {
    const special = new SpecialTokens({ tokenizer, specialTokens: {} });
    special.add({ ids, trained: Uint8Array.from(trained), merged: 0 });
    return special.result();
  };
  it('are checked at both ends', () => {
    const word = tokenizer.encode('it', { special: false });
    const [bos, eos] = [tokenizer.bosId!, tokenizer.eosId!];
    expect(count([bos, ...word, eos])).toMatchObject({
      doubleBos: 0,
      withoutBos: 0,
      endWithEos: 1,
      withoutEnd: 0,
    });
    expect(count([bos, bos, ...word])).toMatchObject({ doubleBos: 1, withoutEnd: 1 });
    expect(count([...word, eos, ...tokenizer.encode('\n', { special: false })])).toMatchObject({
      withoutBos: 1,
      endWithEos: 1,
    });
    expect(count([bos, ...word, eos], [0, ...word.map(() => 1), 0])).toMatchObject({ withoutEnd: 1 });
    expect(count([bos, eos], [0, 0])).toMatchObject({ withoutEnd: 0, endWithEos: 0 });
  });
});

describe('findings', () => {
  it('are none where nothing is wrong', () => {
    expect(codes({})).toEqual([]);
  });

  it('name what is wrong, the worst first', () => {
    const reason = (code: string, count: number) => ({
      code,
      count,
      first: { origin: { file: 'a', row: 1 }, code, reason: 'so' },
    });
    const { tally, specialTokens } = inspection();
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('ROW_NOT_JSON', 1)] } })).toEqual([
      'error BAD_ROWS',
    ]);
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('ROW_NOT_JSON', 1)] } }, 0.5)).toEqual([
      'warning BAD_ROWS',
    ]);
    expect(codes({ read: { rows: 10, bad: 1, reasons: [reason('DATA_TEMPLATE', 1)] } })).toEqual([
      'error TEMPLATE_PREFIX',
    ]);
    const heldOutRead = { rows: 10, bad: 2, reasons: [reason('ROW_FIELD', 1), reason('DATA_TEMPLATE', 1)] };
    expect(codes({ heldOutRead })).toEqual(['error HELD_OUT_TEMPLATE_PREFIX', 'error HELD_OUT_BAD_ROWS']);
    expect(codes({ tally: newTally() })).toEqual(['error EMPTY']);
    expect(codes({ tally: { ...tally, untrained: 10 } })).toEqual(['error UNTRAINED']);
    expect(codes({ tally: { ...tally, untrained: 4, dropped: 6 } })).toEqual([
      'error UNTRAINED',
      'error DROPPED',
    ]);
    expect(
      codes({ tally: { ...tally, untrained: 1, truncated: 1, merged: 2, dropped: 1 }, partial: true }),
    ).toEqual(['warning UNTRAINED', 'warning DROPPED', 'note PARTIAL', 'note MERGED', 'note TRUNCATED']);
    expect(
      codes({
        fill: 0.5,
        specialTokens: {
          ...specialTokens,
          doubleBos: 1,
          withoutBos: 1,
          withoutEnd: 1,
          unknownTokens: 1,
          withUnknown: 1,
          endWithOther: { '<|im_end|>': 2 },
        },
      }),
    ).toEqual([
      'warning DOUBLE_BOS',
      'warning WITHOUT_BOS',
      'warning WITHOUT_END',
      'warning UNKNOWN_TOKENS',
      'note OTHER_END',
      'note LOW_FILL',
    ]);
    const overlap = { heldOut: 4, equal: 1, touched: 2, known: 1, withRuns: 4, sampledOneIn: 1, named: [] };
    expect(codes({ overlap, duplicates: { count: 2, sampledOneIn: 2, named: [] } })).toEqual([
      'warning DUPLICATES',
      'warning OVERLAP',
    ]);
    expect(codes({ overlap: { ...overlap, equal: 0, known: 0 } })).toEqual(['note OVERLAP_SLIGHT']);
    expect(codes({ overlap: { ...overlap, heldOut: 0, equal: 0, known: 0, touched: 0 } })).toEqual([
      'error HELD_OUT_EMPTY',
    ]);
  });
});

describe('the terminal', () => {
  const lines = (color: boolean, tokens = false) => {
    const output = { ...fakeContext().context.stdout, color };
    return inspectionLines(inspection(), [], { tokens }, output).join('\n');
  };

  it('marks trained tokens without colours', () => {
    expect(lines(false)).toContain('Say⏎\n【</pre>');
    expect(lines(false)).toContain('│ yes】 no');
  });

  it('names a few duplicates and counts the others', () => {
    const place = (row: number) => ({ file: 'a', row });
    const duplicates = { count: 3, sampledOneIn: 1, named: [{ origin: place(9), first: place(1) }] };
    const output = fakeContext().context.stdout;
    const text = inspectionLines(inspection({ duplicates }), [], { tokens: false }, output).join('\n');
    expect(text).toContain('a:9 repeats a:1\n              and 2 more');
  });

  it('shows a token per line when asked', () => {
    expect(lines(false, true)).toMatch(/ 0 +5 {2}· +"Say\\n"/);
    expect(lines(false, true)).toMatch(/ 2 +7 {2}trained {2}" yes"/);
  });

  it('colours them where there are colours, and lets data command nothing', () => {
    expect(lines(true)).toContain('\u001b[32m');
    expect(stripVTControlCharacters(lines(true))).not.toMatch(COMMANDS);
    for (const text of [lines(false), lines(false, true)]) expect(text).not.toMatch(COMMANDS);
  });
});

describe('the HTML report', () => {
  const page = () =>
    inspectionPage(inspection(), [{ level: 'note', code: 'X', message: HOSTILE }], {
      title: HOSTILE,
      facts: [['model', HOSTILE]],
    });

  it('is one file that runs and loads nothing, whatever the data says', () => {
    const html = page();
    expect(html).not.toMatch(/<script|<img|<link|src=|href=|javascript:/i);
    expect(html).not.toMatch(COMMANDS);
    expect(html).toContain("default-src 'none'");
    expect(html.match(/<pre>/g)).toHaveLength(1);
    expect(html.match(/<\/pre>/g)).toHaveLength(1);
    expect(html).toContain('<span class="t" title="7"> yes</span>');
  });

  it('closes what it opens, with samples and without', () => {
    const empty = { ...inspection().lengths!, histogram: [{ from: 0, to: 9, samples: 0 }] };
    const bare = inspectionPage(inspection({ samples: [], lengths: empty }), [], { title: 'x', facts: [] });
    expect(bare).not.toContain('<h2>Samples');
    expect(bare).not.toContain('NaN');
    for (const html of [page(), bare]) {
      const open: string[] = [];
      // Text holds no "<": it is escaped.
      for (const [, slash, name] of html.matchAll(/<(\/?)([a-z0-9]+)[^>]*>/g)) {
        if (name === 'meta') continue;
        if (slash === '') open.push(name!);
        else expect(open.pop()).toBe(name);
      }
      expect(open).toEqual([]);
    }
  });

  it('replaces an earlier report and nothing else', async () => {
    const [report, data] = [join(dir, 'report.html'), join(dir, 'data.jsonl')];
    await checkReport(report);
    // Nothing is left where no report comes to be written.
    await expect(access(report)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(report, page());
    await checkReport(report);
    await writeFile(data, '{"text": "mine"}\n');
    await expect(checkReport(data)).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
    await expect(checkReport(join(dir, 'nowhere', 'report.html'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
