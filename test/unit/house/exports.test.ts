import { posix } from 'node:path';
import { expect, it } from 'vitest';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';
import { exportsOf, importsOf, parseModule } from '../../utils/source/syntax.ts';

/** Modules that the package exports, and the module that `cli/swarm.js` runs. */
const ENTRIES = ['index.ts', 'protocol/index.ts', 'lora/update/index.ts', 'cli/main.ts'];
/** Exports that nothing uses yet. */
const ALLOWED = [
  // The file has all operations, even those that no model needs. Tests compare each operation with its definition.
  /^lora\/graph\/ops\.ts: /,

  // Programs that keep several adapters in memory use this function.
  /^registry\/load\.ts: loadVersion$/,
];

it('every export is used by the library, or is an export of the package', () => {
  const modules = sourcesIn(SHIPPED).map(({ path, text }) => ({
    path,
    text,
    program: parseModule({ path, text }),
  }));
  /** Names that other modules take, by module. */
  const taken = new Map<string, Set<string>>();
  for (const { path, program } of modules) {
    for (const { target, names } of importsOf(program)) {
      if (!target?.startsWith('.')) continue;
      const module = posix.join(posix.dirname(path), target);
      taken.set(module, new Set([...(taken.get(module) ?? []), ...names]));
    }
  }
  const unused = modules
    .filter(({ path }) => !ENTRIES.includes(path))
    .flatMap(({ path, text, program }) => {
      const names = taken.get(path) ?? new Set();
      if (names.has('*')) return [];
      return [...exportsOf(program).keys()]
        .filter((name) => !names.has(name) && text.match(new RegExp(`\\b${name}\\b`, 'g'))!.length === 1)
        .map((name) => `${path}: ${name}`);
    });
  expect(unused.filter((line) => !ALLOWED.some((pattern) => pattern.test(line)))).toEqual([]);
});
