import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import util from 'node:util';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { SwarmError } from '../../../../common/errors.ts';
import { createTfjsEngine } from '../../../../lora/engines/tfjs/engine.ts';
import { findTensorFlow } from '../../../../lora/engines/tfjs/packages.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import { add } from '../../../../lora/graph/ops.ts';

const [GPU, CPU] = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lora-swarm-packages-'));
});
afterEach(() => rm(folder, { recursive: true }));

const installation = () => join(folder, 'index.js');

async function install(name: string, source: string): Promise<void> {
  const dir = join(folder, 'node_modules', name);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'package.json'), JSON.stringify({ name, version: '0.0.0', main: 'index.js' }));
  await writeFile(join(dir, 'index.js'), source);
}

/** Statements that set `core` to tfjs-core and require tfjs' processor backend, from this repository's node_modules. */
const CORE = (() => {
  const require = createRequire(import.meta.url);
  const at = (name: string) => JSON.stringify(require.resolve(name));
  return `const core = require(${at('@tensorflow/tfjs-core')}); require(${at('@tensorflow/tfjs-backend-cpu')});`;
})();

/**
 * Returns the source of a CommonJS module that stands in for one of the packages. Like the package, it calls functions
 * that Node.js 23 removed from util, registers kernels, re-exports tfjs-core and sets its own backend. The kernels are
 * those of tfjs' processor backend.
 */
function standIn(mark: string, { backend = 'tensorflow', fails }: { backend?: string; fails?: string } = {}) {
  return `
    const { isArray, isNullOrUndefined } = require('util');
    if (!isArray([]) || isArray({}) || !isNullOrUndefined(null) || isNullOrUndefined(0)) throw new Error('no util');
    ${CORE}
    if (core.findBackendFactory('${backend}') === null) {
      core.copyRegisteredKernels('cpu', '${backend}');
      core.registerBackend('${backend}', core.findBackendFactory('cpu'), 3);
    }
    ${fails === undefined ? '' : `throw new Error(${JSON.stringify(fails)});`}
    core.setBackend('${backend}');
    module.exports = { ...core, mark: ${JSON.stringify(mark)} };`;
}

const find = (file = installation()) => findTensorFlow({ threads: 3, from: file });

const markOf = async (file?: string) => ((await find(file)) as unknown as { mark: string }).mark;

const failure = () =>
  find().then(
    () => expect.unreachable(),
    (error) => error as SwarmError,
  );

/** Environment variables that the packages set. They are restored after each test. */
const { TF_NUM_INTRAOP_THREADS, TF_CPP_MIN_LOG_LEVEL } = process.env;
afterEach(() => {
  for (const [name, value] of Object.entries({ TF_NUM_INTRAOP_THREADS, TF_CPP_MIN_LOG_LEVEL })) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

describe('the TensorFlow.js packages for Node.js', () => {
  test('are unavailable if neither is installed, with a command that installs optional peers', async () => {
    const error = await failure();
    expect(error).toMatchObject({ code: 'ENGINE_UNAVAILABLE', values: { packages: [GPU, CPU] } });
    for (const name of [GPU, CPU]) expect(error.next).toContain(`npm install --save-optional ${name}@4.22.0`);
  });

  test('are tried in order: the one for GPUs before the one for processors', async () => {
    await install(CPU!, standIn('processor'));
    expect(await markOf()).toBe('processor');
    await install(GPU!, standIn('gpu'));
    expect(await markOf()).toBe('gpu');
  });

  test('are unavailable if none loads, with the reason of each', async () => {
    const missing = 'libcudart.so.11.0: cannot open shared object file';
    await install(GPU!, `throw new Error(${JSON.stringify(missing)});`);
    expect((await failure()).values.failures).toEqual([`${GPU}: ${missing}`]);
    await install(CPU!, "require('a-dependency-that-is-missing');");
    const error = await failure();
    expect(error).toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect(error.values.failures).toHaveLength(2);
  });

  test('give way to the next one if one fails after it has registered, without a warning', async () => {
    const warn = vi.spyOn(console, 'warn');
    onTestFinished(() => warn.mockRestore());
    await install('@tensorflow/tfjs', `${CORE} module.exports = core;`);
    await install(GPU!, standIn('gpu', { fails: 'the native add-on is missing' }));
    await install(
      CPU!,
      `${CORE}
      for (const kernel of core.getKernelsForBackend('cpu')) core.registerKernel({ ...kernel, backendName: 'tensorflow' });
      if (!core.registerBackend('tensorflow', core.findBackendFactory('cpu'), 3)) throw new Error('taken');
      core.setBackend('tensorflow');
      module.exports = { ...core, mark: 'processor' };`,
    );
    expect(await markOf()).toBe('processor');
    expect(warn.mock.calls).toEqual([]);
  });

  test('are not used if they start with another backend', async () => {
    await install(GPU!, standIn('gpu', { backend: 'cpu' }));
    expect((await failure()).values.failures).toHaveLength(1);
  });

  test('get the number of threads and a log level, unless the user has set them', async () => {
    await install(CPU!, standIn('processor'));
    delete process.env.TF_CPP_MIN_LOG_LEVEL;
    delete process.env.TF_NUM_INTRAOP_THREADS;
    await find();
    expect(process.env).toMatchObject({ TF_NUM_INTRAOP_THREADS: '3', TF_CPP_MIN_LOG_LEVEL: '1' });
    Object.assign(process.env, { TF_NUM_INTRAOP_THREADS: '5', TF_CPP_MIN_LOG_LEVEL: '0' });
    await find();
    expect(process.env).toMatchObject({ TF_NUM_INTRAOP_THREADS: '5', TF_CPP_MIN_LOG_LEVEL: '0' });
  });

  test('run graphs', async () => {
    await install(GPU!, standIn('gpu'));
    const engine = await createTfjsEngine(await find());
    const graph = new Graph();
    const x = graph.input('x', [2]);
    graph.output('y', add(x, x));
    const executable = await engine.compile(graph, null);
    expect(await executable.run({ x: Float32Array.of(1, 2) })).toEqual({ y: Float32Array.of(2, 4) });
    await executable.dispose();
  });

  test('find the functions of util that they need, even if Node.js has removed them', async () => {
    const legacy = util as unknown as Record<'isArray' | 'isNullOrUndefined', unknown>;
    const { isArray, isNullOrUndefined } = legacy;
    onTestFinished(() => void Object.assign(legacy, { isArray, isNullOrUndefined }));
    Reflect.deleteProperty(legacy, 'isArray');
    Reflect.deleteProperty(legacy, 'isNullOrUndefined');
    await install(CPU!, standIn('processor'));
    expect(await markOf()).toBe('processor');
  });
});
