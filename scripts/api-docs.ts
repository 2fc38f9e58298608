/**
 * Writes the pages of the library's API into dist/docs: `npm run docs`. It is an error if a type of the public interface is
 * not exported or has no docstring.
 *
 * typedoc needs the JavaScript API of TypeScript 6, but the checkout has TypeScript 7. typedoc therefore has packages of its
 * own in scripts/api-docs, which this script installs on first use.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './run-command.ts';

const FOLDER = join(import.meta.dirname, 'api-docs');
const TYPEDOC = join(FOLDER, 'node_modules', 'typedoc');

/** Returns whether typedoc is installed in the version that package.json names. */
function isInstalled(): boolean {
  const versionIn = (file: string): { version?: string; dependencies?: Record<string, string> } =>
    JSON.parse(readFileSync(file, 'utf8'));
  const description = join(TYPEDOC, 'package.json');
  if (!existsSync(description)) return false;
  return versionIn(description).version === versionIn(join(FOLDER, 'package.json')).dependencies?.typedoc;
}

if (!isInstalled()) await runCommand('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], FOLDER);
await runCommand(process.execPath, [join(TYPEDOC, 'bin', 'typedoc')], FOLDER);
