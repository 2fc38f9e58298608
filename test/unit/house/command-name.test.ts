import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createProgram } from '../../../cli/program.ts';
import { fakeContext } from '../../utils/cli-context.ts';
import { SHIPPED, sourcesIn } from '../../utils/sources.ts';

const ROOT = join(import.meta.dirname, '../../..');
const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md'];

const COMMANDS = createProgram(fakeContext().context).commands.map((command) => command.name());
/** Matches a call of the command "swarm", which belongs to another package on the registry. */
const OLD_CALL = new RegExp(
  `npx swarm\\b|(?<![\\w./-])(?<!\\b(?:a|an|the|one|each|this) )swarm(?= (?:${COMMANDS.join('|')}|…)(?![\\w-]))`,
);

/** Returns the lines of a text that use the old name of the command. */
function oldNames(text: string): string[] {
  return text.split('\n').filter((line) => line.includes('swarm') && OLD_CALL.test(line));
}

it('help, messages and docs call the command lora-swarm', () => {
  const files = [
    ...sourcesIn([...SHIPPED, 'scripts', 'examples', 'test/e2e']),
    ...sourcesIn(['docs', 'examples', '.github'], ['.md', '.yml']),
    ...PAGES.map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') })),
  ];
  // Decision 103 explains the change of the name.
  const found = files
    .filter(({ path }) => !path.includes('103-installing'))
    .flatMap(({ path, text }) => oldNames(text).map((line) => `${path}: ${line}`));
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
