import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { wordsOf } from '../../../scripts/doc-commands/page.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

const ROOT = join(import.meta.dirname, '../../..');
const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md'];

const PROGRAM = createProgram(fakeContext().context);
const COMMANDS = PROGRAM.commands.map((command) => command.name());
/** Matches a call of the command "swarm", which belongs to another package on the registry. */
const OLD_CALL = new RegExp(
  `npx swarm\\b|(?<![\\w./-])(?<!\\b(?:a|an|the|one|each|this) )swarm(?= (?:${COMMANDS.join('|')}|…)(?![\\w-]))`,
);

/** Returns the lines of a text that use the old name of the command. */
function oldNames(text: string): string[] {
  return text.split('\n').filter((line) => line.includes('swarm') && OLD_CALL.test(line));
}

/** Returns the command that a call names, and the number of words of its name. */
function namedCommand(words: readonly string[]): { command: Command; length: number } | null {
  const command = PROGRAM.commands.find((one) => one.name() === words[0]);
  if (!command) return null;
  const subcommand = command.commands.find((one) => one.name() === words[1]);
  return subcommand ? { command: subcommand, length: 2 } : { command, length: 1 };
}

/** Returns the quoted calls of `lora-swarm` in a text that do not fit the commands and their options. */
function wrongCalls(text: string): string[] {
  const calls = text.matchAll(/["`](?:lora-swarm|\$\{SWARM\}) ([a-z][^"`\n]*)["`]/g);
  return [...calls].flatMap(([call, rest = '']) => {
    // A value in {{ }} is one word. The words after an inserted text are unknown.
    const known = rest.replaceAll(/\{\{[^}]*\}\}/g, 'VALUE').split(/\$\{|\[|\\|…/)[0]!;
    const words = known.trim().split(/\s+/);
    const named = namedCommand(words);
    return named && fits(named.command, words.slice(named.length)) ? [] : [call];
  });
}

/** Returns the calls in the code blocks of a page that do not fit the commands and their options. */
function wrongLines(page: string): string[] {
  const blocks = [...page.matchAll(/^```\w*\n(.*?)^```$/gms)].map(([, text]) =>
    text!.replaceAll(/ ?\\\n */g, ' '),
  );
  const calls = blocks.flatMap((text) => [...text.matchAll(/^(?:\$ )?(?:npx )?lora-swarm ([a-z].*)$/gm)]);
  return calls.flatMap(([call, rest = '']) => {
    const words = wordsOf(rest.split(/ #|[[…;>]/)[0]!);
    const named = namedCommand(words);
    return named && fits(named.command, words.slice(named.length)) ? [] : [call];
  });
}

/** Whether a command takes these words: its options, their values, and its arguments. */
function fits(command: Command, words: readonly string[]): boolean {
  const isNameOnly = words.length === 0;
  if (isNameOnly) return true;
  const needsSubcommand = command.commands.length > 0 && command.registeredArguments.length === 0;
  if (needsSubcommand && !words[0]!.startsWith('-')) return false;
  let args = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === '--' || word === '|') break;
    if (!word.startsWith('-') || word === '-') {
      args++;
      continue;
    }
    const option = command.options.find(({ long, short }) => [long, short].includes(word.split('=')[0]));
    if (!option && !command.parent?.options.some(({ long }) => long === word)) return false;
    if (option && (option.required || option.optional) && !word.includes('=')) i++;
    if (option?.variadic) while (words[i + 1] && !words[i + 1]!.startsWith('-')) i++;
  }
  const isVariadic = command.registeredArguments.some(({ variadic }) => variadic);
  return isVariadic || args <= command.registeredArguments.length;
}

const FILES = [
  ...sourcesIn([...SHIPPED, 'scripts', 'examples', 'test/e2e']),
  ...sourcesIn(['docs', 'examples', '.github'], ['.md', '.yml']),
  ...PAGES.map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') })),
];

it('help, messages and docs call the command lora-swarm', () => {
  // Decision 103 explains the change of the name.
  const found = FILES.filter(({ path }) => !path.includes('103-installing')).flatMap(({ path, text }) =>
    oldNames(text).map((line) => `${path}: ${line}`),
  );
  expect(found, 'write "lora-swarm COMMAND"; the program itself adds "npx" in a checkout').toEqual([]);
});

it('finds the old name in commands, and not in sentences about a swarm', () => {
  const job = 'job list';
  for (const text of [`see "swarm ${job}"`, `npx ${'swarm'} x`, `  $ swarm ${job}`, 'run `swarm …`']) {
    expect(oldNames(text), text).toHaveLength(1);
  }
  for (const text of [
    `see "lora-swarm ${job}"`,
    'nodes of a swarm train it',
    'the swarm data',
    'cli/swarm.js demo',
  ]) {
    expect(oldNames(text), text).toEqual([]);
  }
});

it('help, messages and docs name only commands that exist', () => {
  const found = FILES.flatMap(({ path, text }) => wrongCalls(text).map((call) => `${path}: ${call}`));
  expect(found).toEqual([]);
});

it('the code blocks of pages call only commands and options that exist', () => {
  const pages = FILES.filter(({ path }) => path.endsWith('.md'));
  expect(pages.flatMap(({ path, text }) => wrongLines(text).map((call) => `${path}: ${call}`))).toEqual([]);
  const block = (call: string): string => `\`\`\`sh\n${call}\n\`\`\`\n`;
  for (const wrong of ['npx lora-swarm jobs', '$ lora-swarm generate --model a \\\n  --promt "a b"']) {
    expect(wrongLines(block(wrong)), wrong).toHaveLength(1);
  }
  expect(wrongLines(block('$ lora-swarm generate --model a \\\n  --prompt "a b"   # text'))).toEqual([]);
});

it('finds commands and options that do not exist', () => {
  for (const wrong of ['job watch JOB', 'jobs', 'job rollback JOB best', 'status --all', 'peers show NAME']) {
    expect(wrongCalls(`see "lora-swarm ${wrong}"`), wrong).toEqual([`"lora-swarm ${wrong}"`]);
  }
  for (const right of [
    'job wait JOB',
    'node swarm1…',
    'job rollback {{ $labels.job }} --to best',
    'peers --why NAME',
    'service install node -- --threads 2',
    'node --max-disk=20',
  ]) {
    expect(wrongCalls(`\`lora-swarm ${right}\``), right).toEqual([]);
  }
});
