import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { ErrorTable } from '../../../common/errors.ts';

const ROOT = join(import.meta.dirname, '../../..');
const FOLDERS = ['common', 'protocol', 'storage', 'lora', 'net', 'monitor', 'node', 'coordinator', 'cli'];

const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name)),
);

it('an error code belongs to one module', async () => {
  const owners = new Map<string, string[]>();
  for (const file of sources.filter((path) => readFileSync(path, 'utf8').includes('= defineErrors('))) {
    const exported: Record<string, unknown> = await import(file);
    for (const value of Object.values(exported)) {
      if (typeof value !== 'function' || !('table' in value)) continue;
      for (const code of Object.keys(value.table as ErrorTable)) {
        owners.set(code, [...(owners.get(code) ?? []), file]);
      }
    }
  }
  expect(owners.size).toBeGreaterThan(150);
  expect([...owners].filter(([, files]) => files.length > 1)).toEqual([]);
});

it('every code of a module is used', () => {
  const text = sources.map((path) => readFileSync(path, 'utf8')).join('\n');
  const declared = [...text.matchAll(/^ {2}'?([A-Za-z_-]+)'?: (?:'\w+'|\{ kind: )/gm)].map(
    ([, code]) => code!,
  );
  const unused = declared.filter((code) => !text.includes(`'${code}'`) && /^[A-Z_]+$/.test(code));
  expect(unused).toEqual([]);
});

it('modules make errors from their tables', () => {
  // Fastify's own errors keep their codes.
  const allowed = ['common/errors.ts', 'coordinator/api/server.ts'].map((path) => join(ROOT, path));
  const offenders = sources.filter(
    (path) => readFileSync(path, 'utf8').includes('new SwarmError(') && !allowed.includes(path),
  );
  expect(offenders).toEqual([]);
});
