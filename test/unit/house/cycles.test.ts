import { expect, it } from 'vitest';
import { importGraph, mutualImports } from '../../utils/source/import-graph.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

it('no modules import each other, by types or values', () => {
  const cycles = mutualImports(importGraph(sourcesIn([...SHIPPED, 'examples', 'scripts'])));
  expect(cycles).toEqual([]);
});

it('finds modules that import each other', () => {
  const texts = {
    'a/a.ts': "import type { B } from '../b.ts';",
    'b.ts': "export * from './c.ts';",
    'c.ts': "await import('./a/a.ts'); import 'c.ts';",
    'd.ts': "import './c.ts'; import './e.ts';",
    'e.ts': "import './d.ts'; import './none.ts';",
    'f.ts': "import './f.ts';",
    'g.ts': "import './a/a.ts'; import './d.ts';",
  };
  const sources = Object.entries(texts).map(([path, text]) => ({ path, text }));
  expect(mutualImports(importGraph(sources))).toEqual([
    ['a/a.ts', 'b.ts', 'c.ts'],
    ['d.ts', 'e.ts'],
    ['f.ts'],
  ]);
});
