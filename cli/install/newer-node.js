// Runs the program with a newer Node.js, if the Node.js that started it is too old. swarm.js loads this file only in
// that case.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants, homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Major version of Node.js that is downloaded: the long-term support release of 2026. */
const LINE = 24;
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
    fetchedNode(cache),
    ...path
      .split(delimiter)
      .filter((folder) => folder !== '')
      .map((folder) => join(folder, EXE)),
  ];
  return places.find(fits) ?? null;
}

/**
 * Returns the name of the npm package that contains Node.js for a platform, and needs no install scripts. The npm
 * package "node" depends on these packages too.
 */
export function nodePackage(platform = process.platform, arch = process.arch) {
  const prefix = platform === 'darwin' && arch === 'arm64' ? 'node-bin' : 'node';
  return `${prefix}-${platform === 'win32' ? 'win' : platform}-${arch}`;
}

/** @param {string} cache */
function fetchedNode(cache) {
  return join(cache, `node-${LINE}`, 'node_modules', nodePackage(), 'bin', EXE);
}

/** Fetches Node.js from the npm registry into the cache. Returns false if npm fails. @param {string} cache */
function fetchNode(cache) {
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'fetching-node-'));
  try {
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
    const quiet = [
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      '--no-update-notifier',
      '--loglevel=error',
      '--global=false',
    ];
    const { status } = spawnSync('npm', ['install', ...quiet, `${nodePackage()}@${LINE}`], {
      cwd: folder,
      // The output of npm must not mix with the output of the command.
      stdio: ['ignore', 'ignore', 'inherit'],
      // On Windows, npm is a .cmd file, which only a shell can start.
      shell: process.platform === 'win32',
    });
    if (status !== 0) return false;
    rmSync(join(cache, `node-${LINE}`), { recursive: true, force: true });
    renameSync(folder, join(cache, `node-${LINE}`));
    return true;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Runs swarm.js with a newer Node.js, and exits with its exit code.
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
  if (node === null) {
    console.error(
      `lora-swarm: this is Node.js ${process.versions.node}, but lora-swarm needs ${needed.join('.')} or newer; fetching Node.js ${LINE} from the npm registry into ${cache}, once`,
    );
    if (fetchNode(cache)) node = find();
  }
  if (node === null) return false;
  const child = spawn(node, [join(ROOT, 'cli', 'swarm.js'), ...process.argv.slice(2)], { stdio: 'inherit' });
  // The terminal sends SIGINT and SIGHUP to the child too. SIGTERM often goes to this process alone, so it is
  // passed on.
  for (const signal of ['SIGINT', 'SIGHUP']) process.on(signal, () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code, signal] = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (...result) => resolve(result));
  });
  process.exit(code ?? 128 + constants.signals[signal]);
}
