import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

/**
 * Ways to make code from data: to run a text, to start a shell, to import a module whose name is computed, and to decode
 * bytes into objects of any class.
 */
const CODE_FROM_DATA =
  /\beval\(|\bFunction\(|\bnode:vm\b|\bdeserialize\(|\bimport\((?!['"`])|\bexecSync\(|\bshell: true/;

/**
 * These files run regular expressions of a peer in a separate context, with a time limit. The code that they run there
 * is constant.
 */
const WITH_TIME_LIMIT = ['lora/data/tokenizing/deadline.ts', 'lora/models/patterns.ts'];

function filesWithCodeFromData(sources: readonly { path: string; text: string }[]): string[] {
  return sources
    .map(({ path, text }) => ({ path, text: text.replace(/^\s*(\*|\/\/|\/\*).*$/gm, '') }))
    .filter(({ text }) => CODE_FROM_DATA.test(text))
    .map(({ path }) => path)
    .sort();
}

it('no source makes code from data, except two that give regular expressions a time limit', () => {
  const sources = sourcesIn(SHIPPED);
  expect(sources.length).toBeGreaterThan(50);
  expect(filesWithCodeFromData(sources)).toEqual(WITH_TIME_LIMIT);
  for (const { path, text } of sources) {
    if (WITH_TIME_LIMIT.includes(path)) expect(text, path).toMatch(/\btimeout\b/);
  }
});

it('finds each way', () => {
  for (const text of [
    'eval(text);',
    "new Function('a', text);",
    "import { Script } from 'node:vm';",
    'v8.deserialize(bytes);',
    'await import(name);',
    "execSync('ls');",
    'spawn(name, { shell: true });',
  ]) {
    expect(filesWithCodeFromData([{ path: 'a.ts', text }]), text).toEqual(['a.ts']);
  }
  expect(filesWithCodeFromData([{ path: 'a.ts', text: "// eval(text)\nawait import('./b.ts');" }])).toEqual(
    [],
  );
});
