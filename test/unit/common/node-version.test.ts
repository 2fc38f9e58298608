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

it('needs the version that package.json names', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8');
  expect((JSON.parse(text) as { engines: { node: string } }).engines.node).toBe('>=22.18');
});
