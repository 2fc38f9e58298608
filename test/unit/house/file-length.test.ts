import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

/** Maximum number of lines of a file of the product, of a script or of an example. */
const MAX_LINES = 300;
/** Files that may be longer, each with the reason. */
const LONGER: Readonly<Record<string, string>> = {
  'index.ts': 'the library has one file, in which its users read all functions with their descriptions',
};
const EXTENSIONS = ['.ts', '.js', '.css', '.py', '.sh', '.html'];

const linesOf = (text: string): number => text.trimEnd().split('\n').length;

it('a file has at most 300 lines, so that a reader finds the right file by its name', () => {
  const files = sourcesIn([...SHIPPED, 'scripts', 'examples'], EXTENSIONS);
  expect(files.some(({ path }) => path.endsWith('.css'))).toBe(true);
  expect(files.some(({ path }) => path.endsWith('.py'))).toBe(true);
  const long = files.filter(({ text }) => linesOf(text) > MAX_LINES);
  const unexpected = long.filter(({ path }) => !(path in LONGER));
  expect(
    unexpected.map(({ path, text }) => `${path} has ${linesOf(text)} lines; split it by subject`),
  ).toEqual([]);
  // An exception that is no longer needed must go.
  expect(long.map(({ path }) => path)).toEqual(expect.arrayContaining(Object.keys(LONGER)));
});
