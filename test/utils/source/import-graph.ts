import { posix } from 'node:path';
import type { SourceFile } from './sources.ts';
import { importsOf, parseModule } from './syntax.ts';

/** The modules that each module imports, by path. Packages are left out. */
export type ImportGraph = ReadonlyMap<string, ReadonlySet<string>>;

export function importGraph(sources: readonly SourceFile[]): ImportGraph {
  return new Map(
    sources.map((source) => {
      const { path } = source;
      const targets = importsOf(parseModule(source)).flatMap(({ target }) =>
        target?.startsWith('.') ? [posix.join(posix.dirname(path), target)] : [],
      );
      return [path, new Set(targets)];
    }),
  );
}

/** Returns the groups of modules that import each other, directly or through others of the group, sorted by path. */
export function mutualImports(graph: ImportGraph): string[][] {
  // A module that no other module imports, or that imports no other, is in no cycle, so it is removed. The modules that are
  // left are in a cycle, or between two cycles.
  const left = new Map([...graph].map(([path, targets]) => [path, new Set(targets)]));
  for (let before = -1; before !== left.size; ) {
    before = left.size;
    const imported = new Set([...left.values()].flatMap((targets) => [...targets]));
    for (const [path, targets] of left) {
      for (const target of targets) if (!left.has(target)) targets.delete(target);
      if (targets.size === 0 || !imported.has(path)) left.delete(path);
    }
  }
  const reached = new Map([...left.keys()].map((path) => [path, reachable(left, path)]));
  const groups = new Map<string, string[]>();
  for (const [path, others] of reached) {
    if (!others.has(path)) continue;
    const group = [...others].filter((other) => reached.get(other)?.has(path)).sort();
    groups.set(group[0]!, group);
  }
  return [...groups.values()].sort(([a], [b]) => (a! < b! ? -1 : 1));
}

/** Returns the modules that a module imports, directly or through others. */
function reachable(graph: ImportGraph, from: string): Set<string> {
  const found = new Set<string>();
  const waiting = [...(graph.get(from) ?? [])];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    waiting.push(...(graph.get(path) ?? []));
  }
  return found;
}
