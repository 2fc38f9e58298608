import { join } from 'node:path';
import { expect, it } from 'vitest';
import { baseWarning } from '../../../../lora/adapter/check-base.ts';

const COMMIT = 'a'.repeat(40);
const SNAPSHOT = join('/cache/models--org--name/snapshots', COMMIT);
const warning = (dir: string, baseModelName: string | null, revision: string | null = null) =>
  baseWarning({ dir }, { baseDigest: null, baseModelName, revision });

it.each([
  ['the same name on the hub', SNAPSHOT, 'org/name', null],
  ['the same commit', SNAPSHOT, 'org/name', COMMIT],
  ['a branch, which may have moved', SNAPSHOT, 'org/name', 'main'],
  ['a folder of another cache', SNAPSHOT, `/other/models--org--name/snapshots/${COMMIT}`, null],
  ['a folder of the same name', '/models/name', 'org/name', null],
  ['no name at all', SNAPSHOT, null, null],
])('there is no warning for %s', (_, dir, name, revision) => {
  expect(warning(dir, name, revision)).toBeNull();
});

it.each([
  ['another name', SNAPSHOT, 'org/other', null],
  ['another commit', SNAPSHOT, 'org/name', 'b'.repeat(40)],
  ['a folder of another name', '/models/other', 'org/name', null],
])('there is a warning for %s', (_, dir, name, revision) => {
  expect(warning(dir, name, revision)).toContain(name);
});

it('there is no warning for an adapter with a digest, which checkBase compares', () => {
  const adapter = { baseDigest: 'x', baseModelName: 'org/other', revision: null };
  expect(baseWarning({ dir: SNAPSHOT }, adapter)).toBeNull();
});
