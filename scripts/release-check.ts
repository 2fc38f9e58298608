/**
 * Checks that a release can be made from this checkout: `npm run release:check`. Prints each check, continues after a failed
 * one, and exits with 1 if any failed. Publishes nothing and sets no version.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './run-command.ts';

const ROOT = join(import.meta.dirname, '..');

interface Check {
  readonly name: string;
  /** @throws Error with the reason, if the check fails */
  run(): Promise<void> | void;
}

/** Without SWARM_TEST_NETWORK, tests that need a network are skipped on a machine without one. With it, they fail. */
const ENVIRONMENT = { ...process.env, SWARM_TEST_NETWORK: 'required' };
const npm = (...args: string[]) => runCommand('npm', args, ROOT, ENVIRONMENT);

/** Returns the lines of a version's section, without headings and blank lines. */
export function changelogEntries(changelog: string, version: string): string[] {
  const sections = changelog.split(/^## /m).slice(1);
  const section = sections.find(
    (text) =>
      text
        .split('\n')[0]!
        .trim()
        .split(/[\s–-]/)[0] === version,
  );
  const lines = section?.split('\n').slice(1) ?? [];
  return lines.filter((line) => line.trim() !== '' && !line.startsWith('#'));
}

/** @throws Error when neither the version nor "Unreleased" has entries */
export function checkChangelog(changelog: string, version: string): void {
  if (changelogEntries(changelog, version).length > 0) return;
  if (changelogEntries(changelog, 'Unreleased').length > 0) return;
  throw new Error(`CHANGELOG.md has no entry for ${version} and none under "Unreleased"`);
}

function checkTree(): void {
  const changes = execFileSync('git', ['status', '--porcelain'], { cwd: ROOT, encoding: 'utf8' });
  if (changes !== '') throw new Error(`the tree has changes that are not committed:\n${changes.trimEnd()}`);
}

const CHECKS: readonly Check[] = [
  { name: 'the tree is clean', run: checkTree },
  {
    name: 'the changelog has entries',
    run: () => {
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
      checkChangelog(readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8'), version);
    },
  },
  { name: 'lint', run: () => npm('run', 'lint') },
  { name: 'types', run: () => npm('run', 'types') },
  {
    name: 'the generated docs are current',
    run: () => npm('test', '--', 'test/unit/house', 'test/unit/cli/docs.test.ts'),
  },
  {
    // The test builds, packs and installs the package.
    name: 'the packed package works in an empty folder',
    run: () => npm('test', '--', 'test/e2e/package.test.ts'),
  },
  { name: 'the API pages are built without a warning', run: () => npm('run', 'docs') },
];

if (import.meta.main) {
  const results: string[] = [];
  for (const { name, run } of CHECKS) {
    console.log(`\n── ${name}`);
    try {
      await run();
      results.push(`ok      ${name}`);
    } catch (error) {
      console.error(error instanceof Error ? error.message : error);
      results.push(`FAILED  ${name}`);
      process.exitCode = 1;
    }
  }
  console.log(`\n${results.join('\n')}`);
  if (process.exitCode === undefined) console.log('next: npm version, push the tag, npm publish');
}
