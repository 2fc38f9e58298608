/** WebGPU device for tests, if the machine has one. A software driver is enough. */
import '../../../lora/engines/telemetry.ts';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { createEngine } from '../../../lora/engines/engine.ts';
import { buildModel } from '../../../lora/engines/onnx/model.ts';
import type { Graph } from '../../../lora/graph/graph.ts';
import type { BaseBits } from '../../../lora/models/base/base-bits.ts';
import { prepareWeights } from '../../../lora/models/weights/prepare-weights.ts';
import { type StepCase, stepOf } from './step-cases.ts';

/** Largest difference from the processor. GPUs may fuse multiply and add, and compute exponentials differently. */
export const TOLERANCE = 2e-3;

export const gpu = await createEngine('onnx-webgpu', { threads: 1 }).catch((error: Error) => error);
export const missing = gpu instanceof Error ? gpu : null;

if (missing !== null) console.info(`Tests of WebGPU are skipped: ${missing.message}`);

/** Operators that may run on the processor: those on 64-bit integers, and the mask's comparisons of them. */
export const INTEGERS = new Set([
  'Add',
  'Cast',
  'GreaterOrEqual',
  'Max',
  'Min',
  'Reshape',
  'Sub',
  'Unsqueeze',
]);

/** Returns the operators that a step runs on the processor and its fetches from the device, from onnxruntime's profile. */
export async function placement(
  step: StepCase,
  folder: string,
  { bits = 32, change = (graph) => graph }: { bits?: BaseBits; change?: (graph: Graph) => Graph } = {},
) {
  const { graph: plain, feeds } = stepOf(step);
  const graph = change(plain);
  const weights = await prepareWeights(step.model, folder, { bits });
  const session = await InferenceSession.create(buildModel(graph, weights, 'webgpu'), {
    executionProviders: ['webgpu'],
    enableProfiling: true,
    logSeverityLevel: 4,
    profileFilePrefix: join(folder, 'placement'),
    extra: { session: { model_external_initializers_file_folder_path: folder } },
  });
  const tensors = Object.entries(feeds).map(([name, data]) => {
    const { shape } = graph.inputs.get(name)!;
    const tensor =
      data instanceof Float32Array ? new Tensor('float32', data, shape) : new Tensor('int64', data, shape);
    return [`in:${name}`, tensor] as const;
  });
  await session.run(Object.fromEntries(tensors));
  session.endProfiling();
  await session.release();
  const [profile] = (await readdir(folder)).filter((name) => name.startsWith('placement'));
  const path = join(folder, profile!);
  const events = JSON.parse(await readFile(path, 'utf8')) as {
    args?: { op_name?: string; provider?: string };
  }[];
  await rm(path);
  const nodes = events.flatMap(({ args }) => (args?.op_name && args.provider ? [args] : []));
  return {
    nodes: nodes.length,
    types: nodes.map(({ op_name }) => op_name!),
    onProcessor: nodes.flatMap(({ op_name, provider }) =>
      provider === 'CPUExecutionProvider' ? [op_name!] : [],
    ),
    fetched: nodes.filter(({ op_name }) => op_name === 'MemcpyToHost').length,
  };
}
