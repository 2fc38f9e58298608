/** What training takes on this machine, before anything is loaded. */
import { adapterLayout, adapterSize } from '../adapter/layout.ts';
import type { Precision } from '../engines/precision.ts';
import { graphCost } from '../graph/cost.ts';
import type { BaseBits } from '../models/base-bits.ts';
import { weightFileBytes } from '../models/prepare-weights.ts';
import type { ModelShape } from '../models/targets.ts';
import { adaptedParameters } from './adapted-model.ts';
import { inPrecision } from './precision.ts';
import type { MachineSpeed } from './speed.ts';
import { trainingGraph } from './step.ts';
import type { TrainerSettings } from './trainer.ts';

/** Bytes of a trainer process, and where they go. */
export interface MemoryEstimate {
  /** Node.js, the engine's library and its kernels. */
  readonly runtime: number;
  /**
   * Of the frozen model. As float32 they are pages of a file, which the system shares between processes; in fewer bits most
   * are packed for the kernels.
   */
  readonly weights: number;
  /** Most that lives at one time of the values that a micro-batch makes. */
  readonly activations: number;
  /** Adapter, gradients and two moments, and the copies of them on their way to this process and to disk. */
  readonly adapter: number;
  readonly total: number;
}

export interface WorkEstimate {
  /** Of the matrix products of one optimiser step. */
  readonly flopsPerStep: number;
  /** Of those among them with the base's linear modules: in fewer bits or in float16 they have a speed of their own. */
  readonly baseFlopsPerStep: number;
  /** Read or written by everything else in it. */
  readonly trafficPerStep: number;
  /** Operations of the engine in it. */
  readonly operationsPerStep: number;
  /** Values of the adapter. */
  readonly parameters: number;
}

export interface EstimateSettings extends TrainerSettings {
  /** @default 32 */
  readonly baseBits?: BaseBits;
}

/** What a trainer process holds before it has loaded anything, measured (docs/decisions/080-training.md). */
const RUNTIME_BYTES = 150 * 2 ** 20;
/** Sets of adapter values alive at one time: values, gradients, two moments, the gradients that the engine returns, and
 * three on their way between the processes. */
const ADAPTER_SETS = 8;
const FLOAT_BYTES = 4;
/** Estimates were up to 5 % too low (docs/decisions/080-training.md), and others use the machine too. */
const MARGIN = 1.25;

/** Whether a training that is estimated to take so many bytes has enough of those that are available. */
export function fitsMemory(bytes: number, available: number): boolean {
  return MARGIN * bytes <= available;
}

/** From the shapes in the model's config alone. @throws LORA_*, MODEL_SEQUENCE_TOO_LONG */
export function estimateTraining(
  model: ModelShape,
  { lora, training, checkpointing = false, baseBits = 32 }: EstimateSettings,
): { memory: MemoryEstimate; work: WorkEstimate } {
  const { config, architecture } = model;
  const { batchSize, sequenceLength: length } = training;
  const batch = Math.min(training.microBatch, batchSize);
  const { graph } = trainingGraph(
    { config, architecture, batch, length },
    (graph) => adaptedParameters(graph, model, lora, { training: true }),
    { ...training, checkpointing },
  );
  // What is marked for float16 is what is computed with the base's modules, and changes no other cost.
  const cost = graphCost(inPrecision(graph, architecture, 'float16'));
  const parameters = adapterSize(adapterLayout(model, lora));
  const parts = {
    runtime: RUNTIME_BYTES,
    weights: baseBits === 32 ? cost.weightBytes : weightFileBytes(model, baseBits),
    activations: cost.activationBytes,
    adapter: ADAPTER_SETS * FLOAT_BYTES * parameters,
  };
  const runs = Math.ceil(batchSize / batch);
  return {
    memory: { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) },
    work: {
      flopsPerStep: runs * cost.flops,
      baseFlopsPerStep: runs * cost.float16Flops,
      trafficPerStep: runs * cost.trafficBytes,
      operationsPerStep: runs * cost.operations,
      parameters,
    },
  };
}

/**
 * How much slower than the probe's multiplications in a row everything else that is no product goes through memory:
 * softmax, transpositions, gathers. Like the two below it fits what was measured for 3M parameters on one thread and
 * 135M on two (docs/decisions/080-training.md).
 */
const SLOWNESS = 2;
/** What any operation costs, however small, where the probe of a processor measures less. */
const LEAST_SECONDS_PER_OPERATION = 5e-6;
/** What a whole step attains of the speed of its operations alone. */
const EFFICIENCY = 0.85;

/**
 * Seconds of a step on an idle machine: products at the speed of products, those with the base at the speed measured for its
 * bits and the precision, the rest at that of memory.
 */
export function secondsPerStep(
  work: WorkEstimate,
  speed: MachineSpeed,
  precision: Precision = 'float32',
): number {
  const { flopsPerStep, baseFlopsPerStep, trafficPerStep, operationsPerStep } = work;
  const baseFlops = (precision === 'float16' ? speed.float16Flops : speed.baseFlops) ?? speed.flops;
  const products = (flopsPerStep - baseFlopsPerStep) / speed.flops + baseFlopsPerStep / baseFlops;
  const perOperation = Math.max(LEAST_SECONDS_PER_OPERATION, speed.secondsPerOperation);
  const others = (SLOWNESS * trafficPerStep) / speed.bytes + operationsPerStep * perOperation;
  return (products + others) / EFFICIENCY;
}
