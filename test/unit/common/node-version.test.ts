import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { requireNode } from '../../../common/node-version.ts';
import { withCode } from '../../utils/source/codes.ts';

it.each(['20.20.2', '22.17.9', '8.0.0'])('refuses Node.js %s', (found) => {
  expect(() => requireNode(found)).toThrow(withCode('NODE_VERSION', { found }));
  expect(() => requireNode(found)).toThrow('22.18');
});

it.each(['22.18.0', '23.0.0', process.versions.node])('accepts Node.js %s', (found) => {
  expect(() => requireNode(found)).not.toThrow();
});

it('package.json names the oldest version that the command accepts, and the command and the library run on the same', () => {
  const read = (file: string): string => readFileSync(join(import.meta.dirname, '../../..', file), 'utf8');
  const command = read('cli/swarm.js');
  const [, accepted] = /if \(Number\(parts\[0\]\) < (\d+)\) return tooOld\(\);/.exec(command)!;
  expect((JSON.parse(read('package.json')) as { engines: object }).engines).toEqual({
    node: `>=${accepted}`,
  });
  const [, major, minor] = /var needed = \[(\d+), (\d+)\];/.exec(command)!;
  expect(() => requireNode(`${major}.${minor}.0`)).not.toThrow();
  expect(() => requireNode(`${major}.${Number(minor) - 1}.9`)).toThrow(withCode('NODE_VERSION'));
});
