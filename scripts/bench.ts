/**
 * Runs the benchmarks in scripts/bench/: all of them, or the named ones.
 *
 *   npm run bench [NAME…] [-- --list] [--json] [--quick] [--python PATH] [--shape NAME…]
 *                 [--attack A,B] [--attackers A,B] [--behaviour A,B] [--split A,B] [--seeds N] [--rounds N] [--out FILE]
 *
 * The options from --attack to --rounds select runs of the benchmarks of attacks and scores. Runs that FILE contains are not
 * measured again. Prints a table, or with --json one object per line. Progress goes to standard error. Exits with 1 when a
 * benchmark failed to run. A missed target is a result, not a failure.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { scriptOptions, wholeNumber, wrongUsage } from './options.ts';

/** One measured value. `met`: whether the value reaches its target; null without a target. */
export interface BenchRow {
  name: string;
  /** The measured value; null if the benchmark failed. */
  value: number | null;
  unit: string;
  target: number | null;
  met: boolean | null;
  /** Text about the conditions of the measurement, or about the value that it is compared with. */
  reference: string;
}

export interface BenchOptions {
  log: (line: string) => void;
  /** Python with torch, for benchmarks that compare with PyTorch. */
  python?: string;
  /** Runs a smaller version, to check that the benchmark works. Its values mean nothing. */
  quick?: boolean;
  /** Shapes to measure, for benchmarks with several. */
  shapes?: readonly string[];
  /** Selects some of the runs of a benchmark that has many. */
  choices?: RunChoices;
}

/** Options that select runs. Each value is a number, or a list whose items are separated by commas. */
export type RunChoices = Partial<
  Record<'attack' | 'attackers' | 'behaviour' | 'split' | 'seeds' | 'rounds', string>
> & {
  /** File to which measured runs are appended. Runs that the file already contains are not measured again. */
  out?: string;
};

interface Bench {
  /** Names that the option --shape can have. @default none */
  readonly shapes?: readonly string[];
  run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void>;
}

const FOLDER = join(import.meta.dirname, 'bench');

/**
 * Returns the description and duration of each benchmark, by name. A benchmark is a file that exports `name`. This
 * function reads the files as text, because other files in the folder are programs that start when they are imported.
 */
function findBenches(): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of readdirSync(FOLDER).sort()) {
    if (!file.endsWith('.ts')) continue;
    const text = readFileSync(join(FOLDER, file), 'utf8');
    if (!/^export const name\b/m.test(text)) continue;
    found.set(basename(file, '.ts'), /^export const about =\s+'(.+)';$/m.exec(text)?.[1] ?? '');
  }
  return found;
}

/** Ends the process if a benchmark does not have one of the shapes. */
async function checkShapes(names: readonly string[], shapes: readonly string[]): Promise<void> {
  if (names.length === 0) wrongUsage('--shape needs the name of a benchmark');
  for (const name of names) {
    const { shapes: known = [] } = (await import(`./bench/${name}.ts`)) as Bench;
    const unknown = shapes.filter((shape) => !known.includes(shape));
    if (unknown.length === 0) continue;
    const which = known.length === 0 ? 'it has no shapes' : `its shapes are "${known.join('", "')}"`;
    wrongUsage(`the benchmark ${name} has no shape "${unknown.join('", "')}"; ${which}`);
  }
}

async function runAll(names: readonly string[], report: (row: BenchRow) => void, options: BenchOptions) {
  let failed = 0;
  for (const name of names) {
    options.log(`${name}: ${known.get(name)}${options.quick ? ' (quick)' : ''}`);
    try {
      const bench = (await import(`./bench/${name}.ts`)) as Bench;
      await bench.run(report, options);
    } catch (error) {
      failed++;
      const reason = error instanceof Error ? error.message : String(error);
      report({ name, value: null, unit: '', target: null, met: false, reference: `failed: ${reason}` });
      options.log(error instanceof Error ? (error.stack ?? reason) : reason);
    }
  }
  return failed;
}

const MARKS = new Map([
  [true, 'yes'],
  [false, 'NO'],
  [null, ''],
]);

/** Formats a number with three significant digits, or as a whole number from 1000 on. */
function figure(value: number | null): string {
  if (value === null) return '';
  return Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString('en')
    : String(Number(value.toPrecision(3)));
}

function table(rows: readonly BenchRow[]): string {
  const cells = rows.map(({ name, value, unit, target, met, reference }) => [
    name,
    `${figure(value)} ${unit}`,
    figure(target),
    MARKS.get(met)!,
    reference,
  ]);
  const lines = [['benchmark', 'value', 'target', 'met', 'reference'], ...cells];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const { values, positionals } = scriptOptions(import.meta.filename, {
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    python: { type: 'string' },
    shape: { type: 'string', multiple: true },
    // Options that select some of the runs of a benchmark.
    attack: { type: 'string' },
    attackers: { type: 'string' },
    behaviour: { type: 'string' },
    split: { type: 'string' },
    seeds: { type: 'string' },
    rounds: { type: 'string' },
    out: { type: 'string' },
  },
});
const { json, list, quick, python, shape, ...choices } = values;
const known = findBenches();
const names = [...known.keys()];
const unknown = positionals.filter((name) => !known.has(name));
if (unknown.length > 0) {
  wrongUsage(`no benchmark is called "${unknown.join('", "')}"; the benchmarks are ${names.join(', ')}`);
}
for (const option of ['seeds', 'rounds'] as const) {
  const text = choices[option];
  if (text !== undefined) wholeNumber(option, text);
}
if (list) {
  const width = Math.max(...names.map((name) => name.length));
  for (const [name, about] of known) console.log(`${name.padEnd(width)}  ${about}`);
  process.exit(0);
}

if (shape !== undefined) await checkShapes(positionals, shape);

const rows: BenchRow[] = [];
const report = (row: BenchRow) => {
  rows.push(row);
  if (json) console.log(JSON.stringify(row));
};
const failed = await runAll(positionals.length > 0 ? positionals : names, report, {
  log: (line) => console.error(line),
  quick,
  choices,
  ...(python === undefined ? {} : { python }),
  ...(shape === undefined ? {} : { shapes: shape }),
});
if (!json) console.log(table(rows));
// Ends the process here, because native threads of an engine may still run after a failed benchmark.
process.exit(failed > 0 ? 1 : 0);
