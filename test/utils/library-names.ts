/** The names that index.ts exports, from its text. */
export function exportedNames(index: string): Set<string> {
  const functions = [...index.matchAll(/^export (?:async )?function\*? (\w+)/gm)].map(([, name]) => name!);
  const lists = [...index.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, list]) =>
    list!.split(',').map((name) => name.trim().replace(/^type /, '')),
  );
  return new Set([...functions, ...lists].filter((name) => name !== ''));
}

/** Returns the imports of a file that take a name from one of the library's folders although index.ts exports it, as "file: name (module)". */
export function importsPastLibrary(
  { path, text }: { path: string; text: string },
  names: ReadonlySet<string>,
): string[] {
  const statics = [...text.matchAll(/\bimport (?:type )?\{([^}]*)\} from '(\.[^']*)'/g)];
  const dynamics = [...text.matchAll(/\{([^{}]*)\} = await import\('(\.[^']*)'\)/g)];
  return [...statics, ...dynamics].flatMap(([, list, module]) => {
    const room = /^(?:\.\.\/)+(?!index\.ts)(\w+)\//.exec(module!)?.[1];
    const depth = module!.split('../').length - 1;
    // Modules of the importing folder itself are at a smaller depth than the root.
    if (room === undefined || depth < path.split('/').length - 1) return [];
    return list!
      .split(',')
      .map((name) =>
        name
          .trim()
          .replace(/^type /, '')
          .replace(/ as \w+$|: \w+$/, ''),
      )
      .filter((name) => names.has(name))
      .map((name) => `${path}: ${name} (${module})`);
  });
}
