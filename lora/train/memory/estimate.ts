/** Estimates the memory and work of a run before anything is loaded. */
import { adapterLayout, adapterSize } from '../../adapter/layout.ts';
import { graphCost } from '../../graph/cost.ts';
import type { ModelShape } from '../../models/targets.ts';
import { weightFileBytes } from '../../models/weights/prepare-weights.ts';
import { adaptedParameters } from '../adapted-model.ts';
import type { ResolvedCompute } from '../compute.ts';
import { inPrecision } from '../precision.ts';
import { trainingGraph } from '../step.ts';
import type { TrainerSettings } from '../trainer.ts';

/** Memory of a trainer process in bytes, by use. */
export interface MemoryEstimate {
  /** Memory of Node.js, the engine's library and its kernels. */
  readonly runtime: number;
  /**
   * Memory of the frozen base. At 32 bits, all processes map the same file of weights, so the weights take memory only
   * once. With fewer bits, each process makes its own copy of most of the weights, in the order that its kernels need.
   */
  readonly weights: number;
  /** Maximum size of the values of a micro-batch that exist at the same time. */
  readonly activations: number;
  /**
   * Bytes of the adapter, the gradients, two moments, and the copies that are sent to the parent process and written to
   * disk.
   */
  readonly adapter: number;
  readonly total: number;
}

export interface WorkEstimate {
  /** FLOPs of all matrix products of one optimiser step. */
  readonly flopsPerStep: number;
  /**
   * The FLOPs of matrix products with frozen base weights, a part of `flopsPerStep`. Their speed depends on the base
   * bits and the precision.
   */
  readonly baseFlopsPerStep: number;
  /** Bytes that all operations of the step except matrix products read and write. */
  readonly trafficPerStep: number;
  /** Number of operations that the engine runs in a step. */
  readonly operationsPerStep: number;
  /** Number of values in the adapter. */
  readonly parameters: number;
}

export interface EstimateOptions extends Pick<TrainerSettings, 'lora' | 'training'> {
  readonly compute: Pick<ResolvedCompute, 'checkpointing' | 'baseBits'>;
}

/** Bytes of a trainer process before it loads anything, measured (docs/decisions/080-training.md). */
export const RUNTIME_BYTES = 150 * 2 ** 20;
/**
 * Number of copies of the adapter's values that exist at one time: values, gradients, two moments, the
 * gradients that the engine returns, and three copies in transit between the processes.
 */
const ADAPTER_SETS = 8;
const FLOAT_BYTES = 4;
/**
 * Factor by which the available memory must exceed an estimate. Estimates were up to 10 % too low
 * (docs/decisions/080-training.md), and other programs need memory too.
 */
const MARGIN = 1.25;

/** Returns whether an estimate of `bytes`, plus a quarter as a reserve, fits into `available` bytes. */
export function fitsMemory(bytes: number, available: number): boolean {
  return MARGIN * bytes <= available;
}

/**
 * Estimates memory and work from the shapes in the model's config alone.
 * @throws SwarmError LORA_*, MODEL_SEQUENCE_TOO_LONG
 */
export function estimateTraining(
  model: ModelShape,
  { lora, training, compute: { checkpointing, baseBits } }: EstimateOptions,
): { memory: MemoryEstimate; work: WorkEstimate } {
  const { config, architecture } = model;
  const { batchSize, sequenceLength: length } = training;
  const batch = Math.min(training.microBatch, batchSize);
  const { graph } = trainingGraph(
    { config, architecture, batch, length },
    (graph) => adaptedParameters(graph, model, lora, { training: true }),
    { ...training, checkpointing },
  );
  // The float16 pass marks the matrix products with weights of the base's modules. `baseFlopsPerStep` counts these
  // products. The pass does not change the other costs.
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
