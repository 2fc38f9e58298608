/**
 * Runs the benchmarks in scripts/bench/: all, or those named.
 *
 *   npm run bench [NAME…] [-- --list] [--json] [--quick] [--python PATH] [--shape NAME…]
 *
 * A table for people; with --json one object per line, and what people read goes to standard error. Ends with 1 when a
 * benchmark failed to run; a target that was missed is a result, not a failure.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

/** One figure. `met` says whether it reaches its target, null when there is none. */
export interface BenchRow {
  name: string;
  /** null when the benchmark failed. */
  value: number | null;
  unit: string;
  target: number | null;
  met: boolean | null;
  /** Against what, or on what, it was measured. */
  reference: string;
}

export interface BenchOptions {
  log: (line: string) => void;
  /** Python with torch, for benchmarks that compare with PyTorch. */
  python?: string;
  /** A smaller version of what takes long: shows that it runs, not what it measures. */
  quick?: boolean;
  /** Shapes to measure, for benchmarks that know several. */
  shapes?: readonly string[];
}

interface Bench {
  run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void>;
}

const FOLDER = join(import.meta.dirname, 'bench');

/**
 * The benchmarks by name, with what each does and how long about. Files that export a name are benchmarks; others help
 * them, and some of those act when imported: so read, not import.
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

async function runAll(names: readonly string[], report: (row: BenchRow) => void, options: BenchOptions) {
  let failed = 0;
  for (const name of names) {
    options.log(`${name}: ${known.get(name)}${options.quick ? ' (quick: less of it)' : ''}`);
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

/** Three significant digits, or whole numbers from 1000 on. */
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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    python: { type: 'string' },
    shape: { type: 'string', multiple: true },
  },
});
const known = findBenches();
const names = [...known.keys()];
const unknown = positionals.filter((name) => !known.has(name));
if (unknown.length > 0) {
  console.error(`No benchmark "${unknown.join('", "')}". There are: ${names.join(', ')}.`);
  process.exit(1);
}
if (values.list) {
  const width = Math.max(...names.map((name) => name.length));
  for (const [name, about] of known) console.log(`${name.padEnd(width)}  ${about}`);
  process.exit(0);
}

const rows: BenchRow[] = [];
const report = (row: BenchRow) => {
  rows.push(row);
  if (values.json) console.log(JSON.stringify(row));
};
const failed = await runAll(positionals.length > 0 ? positionals : names, report, {
  log: (line) => console.error(line),
  quick: values.quick,
  ...(values.python === undefined ? {} : { python: values.python }),
  ...(values.shape === undefined ? {} : { shapes: values.shape }),
});
if (!values.json) console.log(table(rows));
// Native threads of an engine may outlive a benchmark that failed.
process.exit(failed > 0 ? 1 : 0);
