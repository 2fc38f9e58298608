import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../../utils/folder.ts';

const STEP = join(import.meta.dirname, '../../../../cli/install/before-install.js');
const ONNXRUNTIME = join(dirname(createRequire(import.meta.url).resolve('onnxruntime-node')), '..');
/** The line that the first version of the step wrote. */
const EARLIER = "process.env.ONNXRUNTIME_NODE_INSTALL ||= 'skip';\n";
/** Takes the place of the package that sets up a proxy: the first download ends the process with this code. */
const DOWNLOADS = 42;
const NO_NETWORK = `exports.bootstrap = () => { require('https').get = () => process.exit(${DOWNLOADS}); };`;

/** Installs lora-swarm's preinstall step beside onnxruntime-node's script, as npm does. */
async function installed() {
  const root = await temporaryFolder();
  const modules = join(root, 'node_modules');
  const script = join(modules, 'onnxruntime-node/script/install.js');
  const step = join(modules, 'lora-swarm/cli/install/before-install.js');
  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  };
  await cp(join(ONNXRUNTIME, 'script'), dirname(script), { recursive: true });
  await write(join(modules, 'onnxruntime-node/package.json'), '{"main":"dist/index.js"}');
  await write(join(modules, 'onnxruntime-node/dist/index.js'), '');
  await write(join(modules, 'global-agent/index.js'), NO_NETWORK);
  await write(join(modules, 'adm-zip/index.js'), '');
  await write(join(modules, 'lora-swarm/package.json'), '{"type":"module"}');
  await cp(STEP, step);
  // The step may have run in this checkout already.
  const original = (await readFile(script, 'utf8')).replace(/^.*ONNXRUNTIME_NODE_INSTALL \|\|=.*\n/, '');
  await writeFile(script, original);
  return { script, original, step };
}

/** Runs a script of Linux x64, the only system with libraries to download, and returns its exit code. */
function run(script: string, options: readonly string[] = [], set: Record<string, string> = {}) {
  const system =
    'data:text/javascript,import os from "os"; os.platform = () => "linux"; os.arch = () => "x64"; import { syncBuiltinESMExports } from "module"; syncBuiltinESMExports()';
  const names = ['PATH', 'SystemRoot'];
  const env = { ...Object.fromEntries(names.map((name) => [name, process.env[name]])), ...set };
  return new Promise<number>((resolve) => {
    const child = execFile(process.execPath, ['--import', system, script, ...options], { env });
    child.on('close', (code) => resolve(code ?? -1));
  });
}

it('skips the downloads of onnxruntime when npm runs its install step', async () => {
  const { script, step } = await installed();
  expect(await run(script)).toBe(DOWNLOADS);
  expect(await run(step)).toBe(0);
  expect(await run(script)).toBe(0);
  expect(await run(script, [], { ONNXRUNTIME_NODE_INSTALL: 'true' })).toBe(DOWNLOADS);
});

it('lets the command that doctor prints download the CUDA libraries, also after an earlier version', async () => {
  const { script, original, step } = await installed();
  await writeFile(script, EARLIER + original);
  expect(await run(script, ['--onnxruntime-node-install=cuda12'])).toBe(0);
  await run(step);
  expect(await run(script, ['--onnxruntime-node-install=cuda12'])).toBe(DOWNLOADS);
  expect(await run(script)).toBe(0);
  const once = await readFile(script, 'utf8');
  await run(step);
  expect(await readFile(script, 'utf8')).toBe(once);
  expect(once.endsWith(`\n${original}`)).toBe(true);
});
