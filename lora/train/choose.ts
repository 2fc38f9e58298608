/** Which engine a machine trains a base with: the fastest of those that run, measured and remembered. */

import { mkdir } from 'node:fs/promises';
import { cpus, hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { writeDurably } from '../../common/durable.ts';
import type { SwarmError } from '../../common/errors.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { loraConfig } from '../adapter/lora-config.ts';
import { engineError } from '../engines/errors.ts';
import { ENGINE_NAMES, type EngineChoice, type EngineName } from '../engines/names.ts';
import { FLOAT16_ENGINES, type Precision } from '../engines/precision.ts';
import { type BaseBits, supportsBaseBits } from '../models/base-bits.ts';
import { readJsonObject } from '../models/json.ts';
import type { ModelShape } from '../models/targets.ts';
import { decideCheckpointing } from './checkpointing.ts';
import { trainingConfigSchema } from './config.ts';
import { estimateTraining, secondsPerStep } from './estimate.ts';
import { type EngineProbe, probeEngine } from './probe.ts';

/** An engine, and why it is this one. */
export interface ChosenEngine {
  readonly engine: EngineName;
  /** For people, in a few words. */
  readonly reason: string;
}

/** What is measured: engines are compared on the same work, whatever a job's own settings are. */
const ROWS = 4;
const LENGTH = 512;
/** The engine that runs everywhere. */
const PROCESSOR: EngineName = 'onnx-cpu';
/** Measured in this order: of two that are about as fast, the first is taken. */
const CANDIDATES: readonly EngineName[] = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'];
/** An engine must be so much faster than one before it: single operations tell no more than that. */
const ADVANTAGE = 1.25;
/** A driver that was installed since is found after so long at the latest; `swarm doctor` measures at once. */
const VALID_MS = 7 * 24 * 3_600_000;
const MAX_RECORD_BYTES = 64 * 1024;
const NO_GPU = 'no GPU was found';

/** How a machine keeps the base and multiplies with it. */
export interface Computing {
  readonly baseBits: BaseBits;
  readonly precision: Precision;
}

/** What a training step of a model takes, in the size that engines are compared in. */
export function comparedWork(
  model: ModelShape,
  { checkpointing = false, baseBits = 32 }: { checkpointing?: boolean; baseBits?: BaseBits } = {},
) {
  const sequenceLength = rowLength(model);
  const training = trainingConfigSchema.parse({ batchSize: ROWS, microBatch: ROWS, sequenceLength });
  const { work, memory } = estimateTraining(model, {
    lora: loraConfig({}),
    training,
    checkpointing,
    baseBits,
  });
  return { work, memory, rows: ROWS, sequenceLength };
}

/** Whether training in that size would turn gradient checkpointing on by itself. @param available bytes of memory */
export function comparedCheckpointing(
  model: ModelShape,
  { engine, baseBits, available }: { engine: EngineName; baseBits: BaseBits; available: number },
): boolean {
  const takes = (checkpointing: boolean) => comparedWork(model, { checkpointing, baseBits }).memory.total;
  return decideCheckpointing('auto', { devices: [{ engine }], baseBits, available, takes }).checkpointing;
}

/**
 * Tokens per second that a probe promises for a model; null where it does not compute so.
 * @param available bytes of memory: where they are few, the forward pass is computed twice. Default: enough
 */
export function promisedSpeed(
  model: ModelShape,
  probe: EngineProbe,
  { baseBits, precision, available = Number.POSITIVE_INFINITY }: Computing & { available?: number },
): number | null {
  const { engine, speed } = probe;
  if (speed === null || lacks(probe, { baseBits, precision }) !== null) return null;
  const checkpointing = comparedCheckpointing(model, { engine, baseBits, available });
  const { work, rows, sequenceLength } = comparedWork(model, { checkpointing, baseBits });
  return (rows * sequenceLength) / secondsPerStep(work, speed, precision);
}

/** What an engine that runs cannot do of what is asked for, as the end of a sentence about it; null where it can. */
export function lacks(
  { engine, speed }: Pick<EngineProbe, 'engine' | 'speed'>,
  { baseBits, precision }: Computing,
): string | null {
  if (!supportsBaseBits(baseBits, engine)) return `does not compute with a base of ${baseBits} bits`;
  if (precision === 'float32') return null;
  if (!FLOAT16_ENGINES.includes(engine)) return 'has no products in float16';
  return speed !== null && speed.float16Flops === undefined ? 'has no device with float16' : null;
}

export interface ProbeOptions extends Computing {
  threads: number;
  signal: AbortSignal;
  /** Is told of each engine before it is measured, which takes two seconds, at most a minute. */
  onProbe?: (engine: EngineName) => void;
}

/**
 * Measures engines one after the other, as together they would measure each other; those that cannot do what is asked for
 * are not measured.
 */
export async function probeEngines(
  engines: readonly EngineName[],
  { tokens, width, baseBits, precision, threads, signal, onProbe }: ProbeOptions & ProbeSize,
  { probe = probeEngine }: { probe?: typeof probeEngine } = {},
): Promise<EngineProbe[]> {
  const probes: EngineProbe[] = [];
  for (const engine of engines) {
    const reason = lacks({ engine, speed: null }, { baseBits, precision });
    if (reason !== null) {
      probes.push({ engine, speed: null, software: false, reason: `it ${reason}`, needs: null });
      continue;
    }
    onProbe?.(engine);
    probes.push(await probe({ engine, tokens, width, baseBits, threads, signal }));
  }
  return probes;
}

/** Of the products that are measured. */
export interface ProbeSize {
  readonly tokens: number;
  readonly width: number;
}

/** The size in which engines are measured for a model. */
export function probeSize(model: ModelShape): ProbeSize {
  return { tokens: ROWS * rowLength(model), width: model.config.hiddenSize };
}

function rowLength({ config }: ModelShape): number {
  return Math.min(LENGTH, config.maxPositions);
}

export interface ProbeMachineOptions extends ProbeOptions {
  model: ModelShape;
}

/**
 * Measures every engine for a model and remembers the choice that follows; null where float16 is asked for and nothing
 * computes in it.
 */
export async function probeMachine(
  options: ProbeMachineOptions & { recordDir: string; now: number },
  deps: { probe?: typeof probeEngine } = {},
): Promise<{ probes: EngineProbe[]; chosen: ChosenEngine | null }> {
  const probes = await probeEngines(CANDIDATES, { ...options, ...probeSize(options.model) }, deps);
  const chosen = best(options, probes);
  if (chosen !== null) await remember(options, chosen);
  return { probes, chosen };
}

export interface ChooseOptions extends ProbeMachineOptions {
  /** What was asked for. */
  engine: EngineChoice;
  /** Where choices are remembered. */
  recordDir: string;
  /** Milliseconds since 1970. */
  now: number;
}

/**
 * The engine that was asked for; for `auto` the fastest one for this base, in these bits and this precision.
 * @throws SwarmError PRECISION where `auto` finds nothing that computes in float16; the signal's reason
 */
export async function chooseEngine(
  options: ChooseOptions,
  deps: { probe?: typeof probeEngine } = {},
): Promise<ChosenEngine> {
  const { engine } = options;
  if (engine !== 'auto') return { engine, reason: 'as asked for' };
  const known = await recall(options);
  if (known !== null) return withHint(known);
  const probeAll = (engines: readonly EngineName[]) =>
    probeEngines(engines, { ...options, ...probeSize(options.model) }, deps);
  const others = await probeAll(CANDIDATES.filter((name) => name !== PROCESSOR));
  // Where nothing else runs there is nothing to compare.
  const usable = others.some((probe) => probe.speed !== null && lacks(probe, options) === null);
  const probes = usable ? [...(await probeAll([PROCESSOR])), ...others] : others;
  const chosen = best(options, probes);
  if (chosen === null) throw noFloat16(others);
  await remember(options, chosen);
  return withHint(chosen);
}

/** Who has a GPU that is not found does not know yet where it is said why. */
function withHint({ engine, reason }: ChosenEngine): ChosenEngine {
  return { engine, reason: reason.replace(NO_GPU, `${NO_GPU} ("swarm doctor" says what is missing)`) };
}

function noFloat16(probes: readonly EngineProbe[]): SwarmError {
  const reasons = probes
    .filter(({ engine }) => FLOAT16_ENGINES.includes(engine))
    .map(({ engine, speed, reason }) => `${engine}: ${speed === null ? reason : 'its device lacks it'}`);
  return engineError(
    'PRECISION',
    `no engine of this machine computes in float16 (${reasons.join('; ')})`,
    {},
    { next: 'take --precision float32; "swarm doctor" says what an engine needs' },
  );
}

/**
 * null where float16 is asked for and nothing computes in it.
 * @param probes of engines in the order of CANDIDATES; without the processor's where no other is of use
 */
function best(
  { model, baseBits, precision }: ProbeMachineOptions,
  probes: readonly EngineProbe[],
): ChosenEngine | null {
  const computing = { baseBits, precision };
  const measured = probes.flatMap((probe) => {
    const tokens = promisedSpeed(model, probe, computing);
    return tokens === null ? [] : [{ engine: probe.engine, tokens }];
  });
  const passedOver = probes.flatMap((probe) => {
    const reason = lacks(probe, computing);
    return reason === null || probe.engine === PROCESSOR ? [] : [`${probe.engine} ${reason}`];
  });
  if (measured.every(({ engine }) => engine === PROCESSOR)) {
    if (precision === 'float16') return null;
    const software = probes.find((probe) => probe.software);
    const found = software === undefined ? NO_GPU : `${software.engine} found no GPU, only a software driver`;
    return { engine: PROCESSOR, reason: [found, ...passedOver].join('; ') };
  }
  const fastest = measured.reduce((best, next) => (next.tokens > ADVANTAGE * best.tokens ? next : best));
  const others = measured
    .filter((other) => other !== fastest)
    .map(({ engine, tokens }) => `${engine} ${count(tokens)}`);
  const speed = `about ${count(fastest.tokens)} tokens/s${describe(computing)}`;
  const reasons = [speed, ...(others.length === 0 ? [] : [others.join(', ')]), ...passedOver];
  return { engine: fastest.engine, reason: reasons.join('; ') };
}

function count(tokens: number): string {
  return Math.round(tokens).toLocaleString('en-US');
}

/** What was measured, where it is not a base of 32 bits in float32. */
function describe({ baseBits, precision }: Computing): string {
  return `${baseBits === 32 ? '' : ` with a base of ${baseBits} bits`}${precision === 'float32' ? '' : ` in ${precision}`}`;
}

const recordSchema = z.object({ engine: z.enum(ENGINE_NAMES), reason: z.string(), at: z.number() });

type RecordOptions = ProbeMachineOptions & { recordDir: string; now: number };

/**
 * One file per machine, base, bits of it, precision and number of threads; the base by its shape, which is all that its
 * speed depends on.
 */
function recordFile({ model, threads, recordDir, baseBits, precision }: RecordOptions): string {
  const machine = [hostname(), process.platform, process.arch, cpus()[0]?.model ?? '', cpus().length];
  const key = sha256(
    encodeCbor({ machine, threads, baseBits, precision, config: JSON.stringify(model.config) }),
  );
  return join(recordDir, `${key}.json`);
}

async function recall(options: RecordOptions): Promise<ChosenEngine | null> {
  try {
    const { engine, reason, at } = recordSchema.parse(
      await readJsonObject(recordFile(options), MAX_RECORD_BYTES),
    );
    const age = options.now - at;
    if (age < 0 || age > VALID_MS) return null;
    return { engine, reason: `${reason}; measured on ${new Date(at).toISOString().slice(0, 10)}` };
  } catch {
    return null;
  }
}

/** Does without where it cannot be written: it only saves time. */
async function remember(options: RecordOptions, chosen: ChosenEngine): Promise<void> {
  const path = recordFile(options);
  try {
    await mkdir(join(path, '..'), { recursive: true });
    await writeDurably(path, JSON.stringify({ ...chosen, at: options.now }));
  } catch {}
}
