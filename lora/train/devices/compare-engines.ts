/** Measures the engines of a machine, and predicts from the measurements how fast each would train a model. */
import { loraConfig } from '../../adapter/lora-config.ts';
import type { EngineName } from '../../engines/names.ts';
import { FLOAT16_ENGINES } from '../../engines/precision.ts';
import { baseText, supportsBaseBits } from '../../models/base/base-bits.ts';
import type { ModelShape } from '../../models/targets.ts';
import { type Compute, processorCompute, type ResolvedCompute } from '../compute.ts';
import { trainingConfigSchema } from '../config.ts';
import { decideCheckpointing } from '../memory/checkpointing.ts';
import { estimateTraining } from '../memory/estimate.ts';
import { type EngineProbe, probeEngine } from './probe.ts';
import { type MachineSpeed, secondsPerStep } from './speed.ts';

/**
 * Number of rows, and of tokens per row, of the training run for which engines are compared. They are the same for all
 * jobs, so that a stored choice serves all jobs.
 */
const ROWS = 4;
const LENGTH = 512;

/** The part of a `Compute` that affects an engine's speed. */
export type Formats = Pick<Compute, 'baseBits' | 'precision'>;

/** Size of the matrix products that are measured. */
export interface ProbeSize {
  readonly tokens: number;
  readonly width: number;
}

export interface ProbeOptions {
  compute: Formats & Pick<Compute, 'threads'>;
  signal: AbortSignal;
  /** Called before each measurement, which takes about 2 seconds and at most a minute. */
  onProbe?: (engine: EngineName) => void;
}

export interface ProbeDeps {
  /** @default probeEngine */
  probe?: typeof probeEngine;
}

/** Estimates the work and memory of the training run for which engines are compared. */
export function comparedWork(
  model: ModelShape,
  compute: Pick<ResolvedCompute, 'checkpointing' | 'baseBits'> = processorCompute(),
) {
  const sequenceLength = rowLength(model);
  const training = trainingConfigSchema.parse({ batchSize: ROWS, microBatch: ROWS, sequenceLength });
  const { work, memory } = estimateTraining(model, { lora: loraConfig({}), training, compute });
  return { work, memory, rows: ROWS, sequenceLength };
}

/**
 * Returns whether the run of `comparedWork` would use gradient checkpointing by default.
 * @param available bytes of memory
 */
export function comparedCheckpointing(
  model: ModelShape,
  { engine, baseBits, available }: { engine: EngineName; available: number } & Pick<Formats, 'baseBits'>,
): boolean {
  const compute = {
    ...processorCompute({ devices: [{ engine }], baseBits }),
    checkpointing: 'auto',
  } as const;
  const needs = (resolved: ResolvedCompute) => comparedWork(model, resolved).memory.total;
  return decideCheckpointing(compute, { available, needs }).compute.checkpointing;
}

/**
 * Predicts the tokens per second of a measured engine. Returns null if the engine does not run, or does not support the
 * base bits or the precision.
 * @param available bytes of memory. The prediction assumes gradient checkpointing if training would otherwise need
 *   more. @default Infinity
 */
export function predictedSpeed(
  model: ModelShape,
  probe: EngineProbe,
  { baseBits, precision, available = Number.POSITIVE_INFINITY }: Formats & { available?: number },
): number | null {
  const { engine, speed } = probe;
  if (speed === null || missingFormat(probe, { baseBits, precision }) !== null) return null;
  const checkpointing = comparedCheckpointing(model, { engine, baseBits, available });
  const { work, rows, sequenceLength } = comparedWork(model, { checkpointing, baseBits });
  return (rows * sequenceLength) / secondsPerStep(work, speed, precision);
}

/**
 * Says which of the requested formats (base bits, precision) an engine lacks, as text to follow the engine's
 * name, such as "cannot compute in float16". Returns null if the engine supports the requested formats.
 */
export function missingFormat(
  { engine, speed }: Pick<EngineProbe, 'engine' | 'speed'>,
  { baseBits, precision }: Formats,
): string | null {
  if (!supportsBaseBits(baseBits, engine)) return `cannot compute with ${baseText(baseBits)}`;
  if (precision === 'float32') return null;
  if (!FLOAT16_ENGINES.includes(engine)) return 'cannot compute in float16';
  return speed !== null && speed.float16Flops === undefined ? 'has no device with float16' : null;
}

/**
 * Measures engines one after the other, because simultaneous measurements would slow each other down. Does not measure
 * engines that do not support the base bits or the precision.
 */
export async function probeEngines(
  engines: readonly EngineName[],
  { tokens, width, compute, signal, onProbe }: ProbeOptions & ProbeSize,
  { probe = probeEngine }: ProbeDeps = {},
): Promise<EngineProbe[]> {
  const { baseBits, threads } = compute;
  const probes: EngineProbe[] = [];
  for (const engine of engines) {
    const reason = missingFormat({ engine, speed: null }, compute);
    if (reason !== null) {
      probes.push({ engine, speed: null, software: false, reason: `it ${reason}`, needs: null });
      continue;
    }
    onProbe?.(engine);
    probes.push(await probe({ engine, tokens, width, baseBits, threads, signal }));
  }
  return probes;
}

/**
 * Measures the running engines a second time, in the same order, and keeps the better figure of the two rounds. Other
 * programs slow single probes down. On a machine under load, 3 of 7 comparisons with a single round named the slower
 * engine.
 */
export async function probeAgain(
  probes: readonly EngineProbe[],
  options: ProbeOptions & ProbeSize,
  deps: ProbeDeps = {},
): Promise<EngineProbe[]> {
  const running = probes.filter(({ speed }) => speed !== null);
  // With a single engine there is nothing to compare.
  if (running.length < 2) return [...probes];
  const again = await probeEngines(
    running.map(({ engine }) => engine),
    options,
    deps,
  );
  return probes.map((first) => {
    const second = again.find(({ engine }) => engine === first.engine);
    if (first.speed === null || second === undefined || second.speed === null) return first;
    return { ...first, speed: fasterOf(first.speed, second.speed) };
  });
}

/** Returns the size of the matrix products that are measured for a model. */
export function probeSize(model: ModelShape): ProbeSize {
  return { tokens: ROWS * rowLength(model), width: model.config.hiddenSize };
}

function fasterOf(a: MachineSpeed, b: MachineSpeed): MachineSpeed {
  const most = (key: 'baseFlops' | 'float16Flops') =>
    a[key] === undefined ? {} : { [key]: Math.max(a[key], b[key] ?? 0) };
  return {
    flops: Math.max(a.flops, b.flops),
    ...most('baseFlops'),
    ...most('float16Flops'),
    bytes: Math.max(a.bytes, b.bytes),
    secondsPerOperation: Math.min(a.secondsPerOperation, b.secondsPerOperation),
  };
}

function rowLength({ config }: ModelShape): number {
  return Math.min(LENGTH, config.maxPositions);
}
