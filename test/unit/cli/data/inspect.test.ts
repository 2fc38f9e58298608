import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isPrinted } from '../../../../cli/errors.ts';
import { createProgram } from '../../../../cli/program.ts';
import type { BadRow } from '../../../../index.ts';
import { fakeContext } from '../../../utils/cli-context.ts';
import { makeTinyModel } from '../../../utils/models/tiny-model.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'inspect-'));
  await makeTinyModel(join(dir, 'model'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function write(name: string, rows: readonly unknown[]): Promise<void> {
  await writeFile(join(dir, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

async function inspect(...args: string[]) {
  const { context, out } = fakeContext({ cwd: dir });
  const error: unknown = await createProgram(context)
    .parseAsync(['data', 'inspect', '--model', 'model', ...args], { from: 'user' })
    .then(
      () => null,
      (caught: unknown) => caught,
    );
  return { error, out: out() };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

const talk = (question: string, answer: string) => ({
  messages: [
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ],
});

describe('lora-swarm data inspect', () => {
  it('reports what a model would learn from conversations, and the problems of the data', async () => {
    const rows = Array.from({ length: 60 }, (_, i) =>
      talk(`What is ${i}?`, `It is the number ${i} and it was before.`),
    );
    await write('train.jsonl', [...rows, rows[4], { messages: [{ role: 'user', content: 'no answer' }] }]);
    await write('held.jsonl', [rows[7], talk('Else?', 'Nothing of this kind was ever seen in training.')]);
    const { error, out } = await inspect(
      ...['--data', 'train.jsonl', '--held-out', 'held.jsonl', '--template', 'plain', '--nodes', '3'],
      ...['--samples', '2', '--html', 'report.html', '--json'],
    );
    expect(error).toBeNull();
    const result = JSON.parse(out);
    expect(result).toMatchObject({
      schemaVersion: 1,
      event: 'inspected',
      kinds: { messages: 62 },
      read: { rows: 62, bad: 0 },
      tally: { samples: 62, untrained: 1, untrainedRows: [{ origin: { row: 62 } }] },
      specialTokens: { endWithEos: 61, withoutBos: 0 },
      duplicates: { count: 1, named: [{ origin: { row: 61 }, first: { row: 5 } }] },
      overlap: { heldOut: 2, equal: 1 },
      share: { nodes: 3 },
      report: join(dir, 'report.html'),
    });
    expect(result.samples).toHaveLength(2);
    const codes = result.findings.map(({ code }: { code: string }) => code);
    expect(codes).toEqual(expect.arrayContaining(['UNTRAINED', 'DUPLICATES', 'OVERLAP']));
    const page = await readFile(join(dir, 'report.html'), 'utf8');
    expect(page).toContain('<span class="t"');
    expect(page).toContain('train.jsonl:62</code>');
    const terminal = await inspect('--data', 'train.jsonl', '--template', 'plain', '--samples', '0');
    expect(terminal.out).toMatch(/^ +\S*train\.jsonl:62: /m);
  });

  it('prints plain text for a terminal', async () => {
    await writeFile(join(dir, 'text.txt'), 'It was the best of times.');
    const { error, out } = await inspect('--data', 'text.txt');
    expect(error).toBeNull();
    expect(out).toContain('text.txt:1  text');
    expect(out).toContain('【');
    expect(out).toContain('samples       1 (1 text)');
  });

  it('stops after --limit samples', async () => {
    await write(
      'many.jsonl',
      Array.from({ length: 30 }, (_, i) => ({ text: `Row ${i}` })),
    );
    const { out } = await inspect('--data', 'many.jsonl', '--limit', '10', '--json');
    expect(JSON.parse(out)).toMatchObject({ partial: true, tally: { samples: 10 } });
  });

  it('reports unusable held-out rows too', async () => {
    await write('fine.jsonl', [{ text: 'good' }]);
    await write('held-bad.jsonl', [{ text: 'else' }, { text: 5 }]);
    const { error, out } = await inspect('--data', 'fine.jsonl', '--held-out', 'held-bad.jsonl', '--json');
    expect(error).toMatchObject({ values: { codes: ['HELD_OUT_BAD_ROWS'] } });
    expect(JSON.parse(out)).toMatchObject({ heldOutRead: { rows: 2, bad: 1 }, overlap: { heldOut: 1 } });
  });

  it('takes no fraction as held-out data', async () => {
    await write('fine.jsonl', [{ text: 'good' }]);
    const { error } = await inspect('--data', 'fine.jsonl', '--held-out', '0.1');
    expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining('0.1') });
  });

  it('prints everything, then fails if training would fail', async () => {
    await write('bad.jsonl', [{ text: 'good' }, ...Array.from({ length: 5 }, () => ({ text: 5 }))]);
    const { error, out } = await inspect('--data', 'bad.jsonl', '--json');
    expect(error).toMatchObject({ code: 'DATA_PROBLEMS', values: { codes: ['BAD_ROWS'] } });
    const findings = expect.arrayContaining([expect.objectContaining({ level: 'error', code: 'BAD_ROWS' })]);
    expect(JSON.parse(out)).toMatchObject({ read: { rows: 6, bad: 5 }, findings });
    expect(isPrinted(error)).toBe(true);
    expect(isPrinted((await inspect('--data', 'bad.jsonl')).error)).toBe(false);
  });

  it('lists ten bad rows of each reason, with empty answers and unknown roles', async () => {
    const customer = { messages: [{ role: 'customer', content: 'Hi' }, talk('', 'b').messages[1]] };
    const good = Array.from({ length: 30 }, (_, i) => talk(`${i}?`, `${i}!`));
    await write('mixed.jsonl', [...good, customer, ...Array(12).fill(talk('a', ' \n'))]);
    for (const template of ['plain', 'chatml']) {
      const { out } = await inspect('--data', 'mixed.jsonl', '--template', template, '--json');
      const { reasons } = JSON.parse(out).read;
      expect(reasons).toMatchObject([
        { code: 'ROW_EMPTY', count: 12 },
        { code: 'ROW_ROLE', count: 1, rows: [{ origin: { row: 31 } }] },
      ]);
      expect(reasons[0].rows.map(({ origin }: BadRow) => origin.row)).toEqual(range(32, 42));
    }
    const { out } = await inspect('--data', 'mixed.jsonl', '--template', 'plain');
    expect(out).toContain('mixed.jsonl:41: ');
    expect(out).not.toContain('mixed.jsonl:42: ');
    expect(out).toContain('"customer"');
  });

  it('warns if every sample is cut, with the length that is enough', async () => {
    await write('long.jsonl', [{ prompt: 'a', completion: 'word '.repeat(90) }]);
    const { error, out } = await inspect('--data', 'long.jsonl', '--sequence-length', '16', '--json');
    expect(error).toBeNull();
    const { findings, tally } = JSON.parse(out);
    const finding = findings.find(({ code }: { code: string }) => code === 'MOST_CUT');
    expect(finding).toMatchObject({ level: 'warning' });
    expect(finding.next).toContain(String(tally.longest - 1));
  });

  it('counts conversations whose earlier turns the template rewrites, and continues', async () => {
    await writeFile(
      join(dir, 'forgetful.jinja'),
      '{% for m in messages %}{{ m.content if loop.last else "…" }}{% endfor %}',
    );
    const [first, second] = [talk('a', 'b').messages, talk('c', 'd').messages];
    await write('turns.jsonl', [talk('a', 'b'), { messages: [...first, ...second] }]);
    const { error, out } = await inspect('--data', 'turns.jsonl', '--template', 'forgetful.jinja', '--json');
    expect(error).toMatchObject({ code: 'DATA_PROBLEMS', values: { codes: ['TEMPLATE_PREFIX', 'EMPTY'] } });
    expect(JSON.parse(out).read.reasons).toMatchObject([
      { code: 'DATA_TEMPLATE', rows: [{ origin: { row: 1 } }, { origin: { row: 2 } }] },
    ]);
  });

  it('fails without data files or a template, and does not overwrite other files with a report', async () => {
    expect((await inspect('--data', 'nowhere.jsonl')).error).toMatchObject({
      code: expect.stringMatching(/^DATA_/),
    });
    await write('talk.jsonl', [talk('a', 'b')]);
    expect((await inspect('--data', 'talk.jsonl')).error).toMatchObject({ code: 'TEMPLATE_MISSING' });
    expect((await inspect('--data', 'talk.jsonl', '--html', 'talk.jsonl')).error).toMatchObject({
      code: 'OUTPUT_EXISTS',
    });
  });
});
