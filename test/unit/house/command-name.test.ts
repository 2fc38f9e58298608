import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { SHIPPED, sourcesIn } from '../../utils/sources.ts';

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

/** Returns the quoted calls of `lora-swarm` in a text that name a command or subcommand which does not exist. */
function unknownCommands(text: string): string[] {
  const calls = text.matchAll(/["`](?:lora-swarm|\$\{SWARM\}) ([a-z]+)(?: ([a-z]{2,}))?/g);
  return [...calls].flatMap(([call, name, next]) => {
    const command = PROGRAM.commands.find((one) => one.name() === name);
    if (!command) return [call];
    // The next word can be an argument, or belong to the sentence, if the command has no subcommands.
    const needsSubcommand = command.commands.length > 0 && command.registeredArguments.length === 0;
    const isKnown = next === undefined || command.commands.some((one) => one.name() === next);
    return needsSubcommand && !isKnown ? [call] : [];
  });
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
  const found = FILES.flatMap(({ path, text }) => unknownCommands(text).map((call) => `${path}: ${call}`));
  expect(found).toEqual([]);
});

it('finds commands and subcommands that do not exist', () => {
  const watch = 'lora-swarm job watch';
  expect(unknownCommands(`see "${watch} JOB"`)).toEqual([`"${watch}`]);
  expect(unknownCommands(`see "lora-swarm ${'jobs'}"`)).toHaveLength(1);
  expect(unknownCommands('"lora-swarm job wait JOB", `lora-swarm node swarm1…`')).toEqual([]);
});
