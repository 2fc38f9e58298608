import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { ErrorTable } from '../../../common/errors.ts';
import { SHIPPED, sourcesIn } from '../../utils/source/sources.ts';

const ROOT = join(import.meta.dirname, '../../..');
const sources = sourcesIn(SHIPPED);

/** Returns the modules that declare each code in a table. */
async function ownersOfCodes(): Promise<Map<string, string[]>> {
  const owners = new Map<string, string[]>();
  for (const { path } of sources.filter(({ text }) => text.includes('= defineErrors('))) {
    const exported: Record<string, unknown> = await import(join(ROOT, path));
    for (const value of Object.values(exported)) {
      if (typeof value !== 'function' || !('table' in value)) continue;
      for (const code of Object.keys(value.table as ErrorTable)) {
        owners.set(code, [...(owners.get(code) ?? []), path]);
      }
    }
  }
  return owners;
}

it('an error code belongs to one module', async () => {
  const owners = await ownersOfCodes();
  expect(owners.size).toBeGreaterThan(150);
  expect([...owners].filter(([, files]) => files.length > 1)).toEqual([]);
});

it('every code of a module is used', async () => {
  const text = sources.map(({ text }) => text).join('\n');
  const codes = [...(await ownersOfCodes()).keys()];
  expect(codes.filter((code) => !text.includes(`'${code}'`) && /^[A-Z_]+$/.test(code))).toEqual([]);
});

it('every error code in the source is declared in a table', async () => {
  const owners = await ownersOfCodes();
  // No table declares the codes of bad rows (ROW_…), of zlib (Z_…) and of Node.js (ERR_…).
  const others = /^(ROW_|Z_|ERR_)/;
  const uses =
    /\bisSwarmError\(\s*\w+,\s*'([A-Z_]+)'|\b(?:code|failed|aborted): '([A-Z_]+)'|\bcode [!=]== '([A-Z]+_[A-Z_]+)'/g;
  // A list of names in capital letters, at least one of which is a code, is a list of codes.
  const lists = /\[((?:\s*'[A-Z]+(?:_[A-Z]+)+',?)+\s*)\]/g;
  const codesIn = (text: string): string[] => [
    ...[...text.matchAll(uses)].map((match) => (match[1] ?? match[2] ?? match[3])!),
    ...[...text.matchAll(lists)]
      .map(([, list]) => [...list!.matchAll(/\w+/g)].map(([name]) => name))
      .filter((names) => names.some((name) => owners.has(name)))
      .flat(),
  ];
  expect(codesIn("if (error.code === 'BLOB_GONE') use(new Set(['BLOB_MISSING', 'BLOB_LOST']))")).toEqual([
    'BLOB_GONE',
    'BLOB_MISSING',
    'BLOB_LOST',
  ]);
  const unknown = sources.flatMap(({ path, text }) =>
    codesIn(text)
      .filter((code) => !owners.has(code) && !others.test(code))
      .map((code) => `${path}: ${code}`),
  );
  expect(unknown).toEqual([]);
});

it('modules make errors from their tables', () => {
  const offenders = sources
    .filter(({ path, text }) => text.includes('new SwarmError(') && path !== 'common/errors.ts')
    .map(({ path }) => path);
  expect(offenders).toEqual([]);
});

it('no module compares a part of a code, because other modules may have codes with the same beginning', () => {
  const part =
    /\bcode\b\)*\??\.(startsWith|endsWith|includes|match|search|split)\(|\/\w*\.(test|exec)\([\w.?!]*\bcode\b/;
  const prefix = /\.(startsWith|endsWith)\((['"`])[A-Z]{2,}_/;
  for (const test of [
    "error.code.startsWith('X')",
    '/^UPDATE_/.test(error.code)',
    "name.startsWith('BLOB_')",
  ])
    expect(part.test(test) || prefix.test(test), test).toBe(true);
  const offenders = sources
    .filter(({ text }) => part.test(text) || prefix.test(text))
    .map(({ path }) => path);
  expect(offenders).toEqual([]);
});
