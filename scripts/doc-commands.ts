/**
 * Runs the commands of pages, and compares their output with what the pages show. Figures, digests and times may differ.
 *
 *   node scripts/doc-commands.ts [PAGE…] [--list]
 *
 * Without PAGE, runs all pages of scripts/doc-commands/pages.ts. Takes minutes for each page. Needs bash and curl, and no
 * network. Prints one line per command. Exits with 1 if a command fails or prints something else.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DocCommand, stepsOf } from './doc-commands/page.ts';
import { PAGES, type PageSetup } from './doc-commands/pages.ts';
import { Session } from './doc-commands/session.ts';
import { firstDifference } from './doc-commands/shape.ts';
import { scriptOptions, wrongUsage } from './options.ts';

const ROOT = join(import.meta.dirname, '..');
/** Number of lines of the output that are shown after a failure. */
const SHOWN_LINES = 5;

const { values, positionals } = scriptOptions(import.meta.filename, {
  allowPositionals: true,
  options: { list: { type: 'boolean', default: false } },
});
const all = Object.keys(PAGES);
const unknown = positionals.find((page) => !all.includes(page));
if (unknown !== undefined)
  wrongUsage(`"${unknown}" is not a page with commands; the pages are ${all.join(', ')}`);
if (values.list) {
  for (const page of all) console.log(page);
  process.exit(0);
}

let failures = 0;
for (const page of positionals.length > 0 ? positionals : all) await runPage(page, PAGES[page]!);
console.log(failures === 0 ? 'all commands print what the pages show' : `${failures} commands differ`);
process.exitCode = failures > 0 ? 1 : 0;

async function runPage(page: string, { before = [], waits = [], ...setup }: PageSetup): Promise<void> {
  const session = await Session.open();
  for (const command of before) {
    const { failure, output } = await session.run(command);
    if (failure !== null) throw new Error(`${page}: ${command} ${failure}: ${output.join('\n')}`);
  }
  for (const step of stepsOf(readFileSync(join(ROOT, page), 'utf8'))) {
    if ('file' in step) {
      await session.write(step.file, step.content);
      continue;
    }
    const background = waits.find(([pattern]) => pattern.test(step.command))?.[1];
    if (background !== undefined) report(page, step, (await session.waitFor(background)).failure);
    await runCommand(page, step, { session, setup });
  }
  for (const failure of await session.close()) fail(`${page}: ${failure}`);
}

async function runCommand(
  page: string,
  step: DocCommand,
  { session, setup: { skipped = [], edits = [] } }: { session: Session; setup: PageSetup },
): Promise<void> {
  const reason = skipped.find(([pattern]) => pattern.test(step.command))?.[1];
  if (reason !== undefined) {
    console.log(`skipped  ${page}:${step.line}  ${step.command} (${reason})`);
    return;
  }
  // A line that begins with ">" is what the user types.
  const typed = step.output.filter((line) => line.startsWith('> ')).map((line) => line.slice(2));
  const command = edits.reduce(
    (text, [pattern, replacement]) => text.replace(pattern, replacement),
    step.command,
  );
  const { output, failure } = await session.run(command, typed);
  if (failure !== null) {
    report(
      page,
      step,
      `${failure}\n${output
        .slice(-SHOWN_LINES)
        .map(({ text }) => `    ${text}\n`)
        .join('')}`,
    );
    return;
  }
  // The output of a conversation is not compared, because the program shows its prompt only in a terminal.
  const shown = typed.length > 0 ? [] : shownOutput(step);
  const difference = shown.length === 0 ? null : firstDifference(shown, output);
  report(
    page,
    step,
    difference &&
      `the output differs\n    page  ${difference.shown ?? '(ends)'}\n    real  ${difference.real ?? '(ends)'}`,
  );
}

/** Returns the output that the page shows for a command. Replaces the text after the prompt of `generate` with "…". */
function shownOutput({ command, output }: DocCommand): readonly string[] {
  const prompt = /lora-swarm generate .*--prompt "([^"]*)"/.exec(command)?.[1];
  return prompt === undefined || output.length === 0 ? output : [`${prompt}…`, '…'];
}

function report(page: string, { line, command }: DocCommand, failure: string | null): void {
  if (failure === null) console.log(`ok       ${page}:${line}  ${command}`);
  else fail(`${page}:${line}  ${command}: ${failure}`);
}

function fail(text: string): void {
  failures++;
  console.log(`FAILED   ${text}`);
}
