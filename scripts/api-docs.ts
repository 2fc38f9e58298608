/**
 * Writes the pages of the library's API into dist/docs: `npm run docs`. A type of the public interface that is not exported
 * or has no docstring is an error.
 *
 * typedoc needs the JavaScript API of TypeScript 6, and the checkout has TypeScript 7. So it has packages of its own in
 * scripts/api-docs, which are installed on first use.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './run-command.ts';

const FOLDER = join(import.meta.dirname, 'api-docs');
const TYPEDOC = join(FOLDER, 'node_modules', 'typedoc');

/** The version in node_modules is the one in package.json. */
function isInstalled(): boolean {
  const versionIn = (file: string): { version?: string; dependencies?: Record<string, string> } =>
    JSON.parse(readFileSync(file, 'utf8'));
  const description = join(TYPEDOC, 'package.json');
  if (!existsSync(description)) return false;
  return versionIn(description).version === versionIn(join(FOLDER, 'package.json')).dependencies?.typedoc;
}

if (!isInstalled()) await runCommand('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], FOLDER);
await runCommand(process.execPath, [join(TYPEDOC, 'bin', 'typedoc')], FOLDER);
