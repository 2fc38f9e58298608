// Runs the program with a newer Node.js, if the Node.js that started it is too old. swarm.js loads this file only in
// that case.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants, homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The npm packages that contain Node.js and need no install scripts, by system. scripts/node-packages.ts writes this
 * table. Its checksums ensure that the registry cannot later supply other files.
 */
const PACKAGES = JSON.parse(readFileSync(new URL('./node-packages.json', import.meta.url), 'utf8'));
const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const EXE = process.platform === 'win32' ? 'node.exe' : 'node';

/**
 * Returns the path of a suitable Node.js: the one in a checkout's node_modules, the one that an earlier call fetched,
 * or one in PATH.
 * @param {{ root: string, cache: string, path: string, fits: (file: string) => boolean }} places
 * @returns {string | null} null if there is none
 */
export function findNode({ root, cache, path, fits }) {
  const places = [
    join(root, 'node_modules', 'node', 'bin', EXE),
    ...[fetchedNode(cache)].filter((file) => file !== null),
    ...path
      .split(delimiter)
      .filter((folder) => folder !== '')
      .map((folder) => join(folder, EXE)),
  ];
  return places.find(fits) ?? null;
}

/**
 * Returns the pinned package with Node.js for a system; null if there is none.
 * @returns {{ name: string, version: string, integrity: string } | null}
 */
export function nodePackage(platform = process.platform, arch = process.arch) {
  return PACKAGES[`${platform}-${arch}`] || null;
}

/** Returns the path of the fetched Node.js. The folder's name has the version, so it never changes. @param {string} cache */
export function fetchedNode(cache, wanted = nodePackage()) {
  if (wanted === null) return null;
  return join(cache, `node-${wanted.version}`, 'node_modules', wanted.name, 'bin', EXE);
}

/**
 * Fetches Node.js from the npm registry into the cache. npm compares it with the pinned checksum, and fails if it differs.
 * @param {string} cache
 * @param {(folder: string) => boolean} [install] replaces npm in tests
 * @returns {boolean} whether the cache has Node.js now
 */
export function fetchNode(cache, install = npmInstall) {
  const wanted = nodePackage();
  if (wanted === null) return false;
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'fetching-node-'));
  try {
    const { name, version, integrity } = wanted;
    const dependencies = { [name]: version };
    const packages = { '': { dependencies }, [`node_modules/${name}`]: { version, integrity } };
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    writeFileSync(
      join(folder, 'package-lock.json'),
      JSON.stringify({ lockfileVersion: 3, requires: true, packages }),
    );
    if (!install(folder)) return false;
    try {
      renameSync(folder, join(cache, `node-${version}`));
    } catch (error) {
      // Ignore the error if another process has fetched the same version meanwhile.
      if (!existsSync(fetchedNode(cache))) throw error;
    }
    return true;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Installs the packages that package-lock.json in the folder lists. @param {string} folder */
function npmInstall(folder) {
  const quiet = [
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-update-notifier',
    '--loglevel=error',
    '--global=false',
  ];
  const { status } = spawnSync('npm', ['ci', ...quiet], {
    cwd: folder,
    // The output of npm must not mix with the output of the command.
    stdio: ['ignore', 'ignore', 'inherit'],
    // npm is a .cmd file on Windows.
    shell: process.platform === 'win32',
  });
  return status === 0;
}

/**
 * Passes on the signals that often go to this process alone: SIGTERM, and SIGHUP when a terminal closes that was opened
 * for this command. If a signal went to the whole process group, the child gets it twice and counts it once
 * (signals.ts). SIGINT is ignored, because the terminal sends it to the child too.
 * @param {{ on: (signal: string, listener: () => void) => unknown }} from
 * @param {{ kill: (signal: string) => unknown }} child
 */
export function passSignals(from, child) {
  from.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP']) from.on(signal, () => child.kill(signal));
}

/**
 * Runs swarm.js with a newer Node.js in a child process, and exits with the exit code of the child process.
 * @param {number[]} needed major and minor version
 * @returns {Promise<boolean>} false if no newer Node.js was found or fetched
 */
export async function runWithNewerNode(needed) {
  const { SWARM_CACHE, XDG_CACHE_HOME, PATH = '' } = process.env;
  const cache = SWARM_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'lora-swarm');
  /** @param {string} file */
  const fits = (file) => {
    if (!existsSync(file)) return false;
    const found = /^v(\d+)\.(\d+)\./.exec(String(spawnSync(file, ['--version']).stdout));
    if (found === null) return false;
    const [major, minor] = [Number(found[1]), Number(found[2])];
    return major > needed[0] || (major === needed[0] && minor >= needed[1]);
  };
  const find = () => findNode({ root: ROOT, cache, path: PATH, fits });
  let node = find();
  if (node === null && nodePackage() !== null) {
    console.error(
      `lora-swarm: this is Node.js ${process.versions.node}, but lora-swarm needs ${needed.join('.')} or newer; fetching Node.js ${nodePackage().version} from the npm registry into ${cache}, once`,
    );
    if (fetchNode(cache)) node = find();
  }
  if (node === null) return false;
  const child = spawn(node, [join(ROOT, 'cli', 'swarm.js'), ...process.argv.slice(2)], { stdio: 'inherit' });
  passSignals(process, child);
  const [code, signal] = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (...result) => resolve(result));
  });
  process.exit(code ?? 128 + constants.signals[signal]);
}
