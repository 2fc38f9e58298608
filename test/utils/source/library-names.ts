import { posix } from 'node:path';
import { exportsOf, importsOf, parseModule } from './syntax.ts';

/** The names that index.ts exports, from its text. */
export function exportedNames(index: string): Set<string> {
  return new Set(exportsOf(parseModule({ path: 'index.ts', text: index })).keys());
}

/**
 * Returns the imports of a file that take a name from one of the library's folders although index.ts exports it, as
 * "file: name (module)". The name `*` stands for an import of a whole module, which could take any name.
 */
export function importsPastLibrary(
  { path, text }: { path: string; text: string },
  names: ReadonlySet<string>,
): string[] {
  const folder = path.split('/')[0]!;
  return importsOf(parseModule({ path, text })).flatMap(({ target, names: taken }) => {
    if (!target?.startsWith('.')) return [];
    const module = posix.join(posix.dirname(path), target);
    if (module === 'index.ts' || module.startsWith(`${folder}/`)) return [];
    return taken
      .filter((name) => name === '*' || names.has(name))
      .map((name) => `${path}: ${name} (${target})`);
  });
}
