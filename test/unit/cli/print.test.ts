import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { printedRows } from '../../../cli/data/bad-rows.ts';
import { failureLines, failureOf, stackText } from '../../../cli/errors.ts';
import {
  brokenLine,
  ProgressLine,
  printFailure,
  printJson,
  printLines,
  printNote,
  printWrapped,
  shownPath,
} from '../../../cli/print.ts';
import { TrainReport } from '../../../cli/train/report.ts';
import { SwarmError } from '../../../common/errors.ts';
import { baseWarning } from '../../../lora/adapter/check-base.ts';
import type { Example } from '../../../lora/data/examples.ts';
import { renderExamples } from '../../../lora/data/render/render-examples.ts';
import { openRenderer } from '../../../lora/data/render/renderer.ts';
import { RowReport } from '../../../lora/data/row-report.ts';
import { loadTokenizer } from '../../../lora/data/tokenizer.ts';
import { fakeContext } from '../../utils/cli-context.ts';

const MODEL = fileURLToPath(new URL('../../fixtures/chat/byte-level', import.meta.url));
/** A text that clears the screen, makes text red (with C0 and with C1 controls), reverses its direction, and adds a line. */
const HOSTILE = '\u001b[2J\u001b[31m\u009b31m\u202eowned\nswarm: all is well';
const CONTROLS = /[\p{Cc}\u202e]/u;

/** Expects lines that name the attack, but have none of its controls. */
function expectSafe(text: string): void {
  expect(text).toContain('owned');
  for (const line of text.trimEnd().split('\n')) {
    expect(line).not.toMatch(CONTROLS);
    expect(line).not.toMatch(/^lora-swarm: all is well/);
  }
}

async function temporary(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'print-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

it('breaks long lines at spaces in a terminal, and leaves them whole elsewhere', () => {
  const long = '17:00:00  round 9  held-out loss 2.1  277 tokens/s  13 s';
  const shown = (isTTY: boolean, line: string): string[] => {
    const texts: string[] = [];
    const stdout = {
      write: (text: string) => void texts.push(text),
      isTTY,
      columns: 40,
      rows: 9,
      color: false,
    };
    printWrapped({ stdout }, [line], 10);
    return texts.map((text) => text.replace('\n', ''));
  };
  const first = '17:00:00  round 9  held-out loss 2.1';
  expect(shown(true, long)).toEqual([first, `${' '.repeat(10)}277 tokens/s  13 s`]);
  expect(shown(false, long)).toEqual([long]);
  const invite = `invite    ${'x'.repeat(90)}`;
  expect(shown(true, invite)).toEqual([invite]);
  const [, ...rest] = shown(true, `${invite} is the invite that admits one machine to the job`);
  expect(rest.join('|')).toMatch(/^ {10}is the .*\| {10}/);
  expect(shown(true, `          invite ${invite.trim()}`)).toHaveLength(1);
});

it('breaks lines in a terminal that is narrower than the indent of the continuation', () => {
  const words = 'held-out loss of the newest checkpoint';
  for (let columns = -1; columns <= 12; columns++) {
    const lines = brokenLine(words, { columns, indent: 12 });
    expect(lines.map((line) => line.trim()).join(' '), `${columns} columns`).toBe(words);
  }
});

it('breaks the message and the advice of an error at spaces, and keeps commands whole', () => {
  const { context, err } = fakeContext();
  const stderr = { ...context.stderr, isTTY: true, columns: 40 };
  const failure = failureOf(
    new SwarmError(
      'X',
      'another machine has used this invite',
      {},
      { next: 'if you are its operator, look at "lora-swarm job list", or ask the operator for another one' },
    ),
  );
  printFailure({ stderr }, failure);
  const lines = err().trimEnd().split('\n');
  expect(lines.slice(0, 2)).toEqual(['lora-swarm: another machine has used', '            this invite']);
  expect(lines.slice(2).every((line) => line.startsWith('  next: ') || /^ {8}\S/.test(line))).toBe(true);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(40);
  expect(lines).toContainEqual(expect.stringMatching(/"npx lora-swarm job list"/));
});

it('lines, notes and progress have no controls', () => {
  const { context, out, err } = fakeContext();
  printLines(context, [HOSTILE]);
  expectSafe(out());
  printNote(context, HOSTILE);
  new ProgressLine(context).update(HOSTILE);
  expectSafe(err());
});

it('JSON has no controls either, and keeps its value', () => {
  const { context, out } = fakeContext();
  printJson(context, { text: HOSTILE });
  expectSafe(out());
  expect(JSON.parse(out())).toEqual({ text: HOSTILE });
});

it('errors have no controls in message, advice and stack', () => {
  const failure = failureOf(new SwarmError('X', HOSTILE, {}, { next: HOSTILE }));
  expectSafe(failureLines(failure).join('\n'));
  const stack = stackText(new TypeError(HOSTILE.replace('\n', ' ')));
  expectSafe(stack);
  expect(stack).toMatch(/\n +at /);
});

it('an error of a hostile chat template is printed without its controls by train and evaluate', async () => {
  const dir = await temporary();
  const template = join(dir, 'template.jinja');
  await writeFile(template, `{{ raise_exception(${JSON.stringify(HOSTILE)}) }}`);
  const tokenizer = await loadTokenizer(MODEL);
  const renderer = await openRenderer({ dir: MODEL, now: 0, template }, { tokenizer });
  onTestFinished(() => renderer.close());
  const { context, err } = fakeContext();
  const training = new TrainReport({ json: false, output: null }, context);
  const evaluation = printedRows(context);
  const report = new RowReport({
    badRowShare: 1,
    onBad: (row) => {
      training.onBadRow(row);
      evaluation(row);
    },
  });
  const messages = [
    { role: 'user', content: 'One' },
    { role: 'assistant', content: 'Two' },
  ];
  const examples: Example[] = [{ origin: { file: 'data.jsonl', row: 1 }, kind: 'messages', messages }];
  report.see();
  for await (const rendered of renderExamples(examples, renderer, { report })) expect(rendered).toBeNull();
  expect(err().split('\n')).toHaveLength(3);
  expectSafe(err());
});

it('the base name of a hostile adapter is printed without its controls by generate and merge', () => {
  const { context, err } = fakeContext();
  const warning = baseWarning(
    { dir: '/models/base' },
    { baseDigest: null, baseModelName: HOSTILE, revision: null },
  );
  printNote(context, warning!);
  expectSafe(err());
});

it('a message about a signal starts in column 1, after the progress line is erased', () => {
  const print = new URL('../../../cli/print.ts', import.meta.url);
  const signals = new URL('../../../cli/signals.ts', import.meta.url);
  const script = `import { ProgressLine } from ${JSON.stringify(print.href)};
    import { drainOnSignals } from ${JSON.stringify(signals.href)};
    const stderr = { write: (text) => process.stderr.write(text), isTTY: true, columns: 80 };
    new ProgressLine({ stderr, clock: { now: () => 0 } }).update('round 1');
    drainOnSignals();
    process.emit('SIGTERM');
    process.exit(0);`;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
  });
  expect(stderr).toContain('round 1\r\u001b[Klora-swarm: ');
  expect(stderr.split('\n')).toHaveLength(2);
});

it('progress outside a terminal prints nothing if it is short, and else ends with its newest value', () => {
  let now = 0;
  const { context, err } = fakeContext();
  const clock = { ...context.clock, now: () => now };
  const progress = new ProgressLine({ stderr: context.stderr, clock });
  const passing = (...times: readonly number[]): string => {
    const before = err().length;
    for (const time of times) {
      now = time;
      progress.update(`${time} of 9`);
    }
    progress.clear();
    return err().slice(before);
  };
  expect(passing(0, 4_999)).toBe('');
  expect(passing(10_000, 14_999, 15_000, 16_000, 17_000)).toBe('15000 of 9\n17000 of 9\n');
  expect(passing(20_000, 25_000)).toBe('25000 of 9\n');
});

it('shows a path inside the current folder as a user would type it', () => {
  const cwd = tmpdir();
  expect(shownPath({ cwd }, join(cwd, 'models', 'nano'))).toBe(join('models', 'nano'));
  expect(shownPath({ cwd }, cwd)).toBe('.');
  const outside = join(cwd, '..', 'models');
  expect(shownPath({ cwd }, outside)).toBe(outside);
});

it('puts the rest of a long line below the text after its label', () => {
  const { context, out } = fakeContext();
  const stdout = { ...context.stdout, isTTY: true, columns: 40 };
  printLines({ stdout }, [
    'ready       Ctrl-C stops the coordinator; the next start continues',
    'a line without a label, but longer than the terminal is wide',
    'the coordinator runs on a machine up 55 s',
  ]);
  expect(out().split('\n')).toEqual([
    'ready       Ctrl-C stops the',
    '            coordinator; the next start',
    '            continues',
    'a line without a label, but longer than',
    '  the terminal is wide',
    'the coordinator runs on a machine up',
    '  55 s',
    '',
  ]);
});
