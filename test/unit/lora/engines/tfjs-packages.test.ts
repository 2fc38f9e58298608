import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import util from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
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

/**
 * A package as the real ones are: CommonJS, uses what Node.js 23 took out of util, re-exports tfjs-core and sets its own
 * backend. This one has the kernels of tfjs' processor backend under the name "tensorflow".
 */
function lookalike(mark: string, backend = 'tensorflow'): string {
  const require = createRequire(import.meta.url);
  const at = (name: string) => JSON.stringify(require.resolve(name));
  return `
    const { isArray, isNullOrUndefined } = require('util');
    if (!isArray([]) || isArray({}) || !isNullOrUndefined(null) || isNullOrUndefined(0)) throw new Error('no util');
    const core = require(${at('@tensorflow/tfjs-core')});
    require(${at('@tensorflow/tfjs-backend-cpu')});
    if (core.findBackendFactory('${backend}') === null) {
      core.copyRegisteredKernels('cpu', '${backend}');
      core.registerBackend('${backend}', core.findBackendFactory('cpu'), 3);
    }
    core.setBackend('${backend}');
    module.exports = { ...core, mark: ${JSON.stringify(mark)} };`;
}

const found = async () => ((await findTensorFlow(installation())) as unknown as { mark: string }).mark;

const failure = async () => {
  try {
    await findTensorFlow(installation());
  } catch (error) {
    return error as { code: string; message: string; values: { failures?: string[]; packages?: string[] } };
  }
};

describe('the packages of TensorFlow.js for Node.js', () => {
  test('neither installed: unavailable, with what to install', async () => {
    const error = await failure();
    expect(error).toMatchObject({ code: 'ENGINE_UNAVAILABLE', values: { packages: [GPU, CPU] } });
    expect(error!.message).toContain(`npm install ${GPU}`);
  });

  test('the one for the processor is found, the one for GPUs comes first', async () => {
    await install(CPU!, lookalike('processor'));
    expect(await found()).toBe('processor');
    await install(GPU!, lookalike('gpu'));
    expect(await found()).toBe('gpu');
  });

  test('one that does not load gives way to the other; none that loads: unavailable, with the reasons', async () => {
    const missing = 'libcudart.so.11.0: cannot open shared object file';
    await install(GPU!, `throw new Error(${JSON.stringify(missing)});`);
    expect((await failure())!.values.failures).toEqual([`${GPU}: ${missing}`]);
    await install(CPU!, "require('a-dependency-that-is-missing');");
    const error = await failure();
    expect(error).toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect(error!.values.failures).toHaveLength(2);
    await rm(join(folder, 'node_modules', CPU!), { recursive: true });
    await install(CPU!, lookalike('processor'));
    // Node.js remembers what it has resolved, so from another file of the same installation.
    expect(((await findTensorFlow(join(folder, 'other.js'))) as unknown as { mark: string }).mark).toBe(
      'processor',
    );
  });

  test('one that comes up on another backend is not taken', async () => {
    await install(GPU!, lookalike('gpu', 'cpu'));
    expect((await failure())!.values.failures).toHaveLength(1);
  });

  test('run graphs', async () => {
    await install(GPU!, lookalike('gpu'));
    const engine = await createTfjsEngine(await findTensorFlow(installation()));
    const graph = new Graph();
    const x = graph.input('x', [2]);
    graph.output('y', add(x, x));
    const executable = await engine.compile(graph, null);
    expect(await executable.run({ x: Float32Array.of(1, 2) })).toEqual({ y: Float32Array.of(2, 4) });
    await executable.dispose();
  });
});

test('what they need of util is there, whatever Node.js has left of it', async () => {
  const legacy = util as unknown as Record<'isArray' | 'isNullOrUndefined', unknown>;
  const { isArray, isNullOrUndefined } = legacy;
  try {
    Reflect.deleteProperty(legacy, 'isArray');
    Reflect.deleteProperty(legacy, 'isNullOrUndefined');
    await install(CPU!, lookalike('processor'));
    expect(await found()).toBe('processor');
  } finally {
    Object.assign(legacy, { isArray, isNullOrUndefined });
  }
});
