/** Which engine a machine trains a base with: the fastest of those that run, measured and remembered. */
import { mkdir } from 'node:fs/promises';
import { cpus, hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { loraConfig } from '../adapter/config.ts';
import { ENGINE_NAMES, type EngineChoice, type EngineName } from '../engines/names.ts';
import type { Precision } from '../engines/precision.ts';
import { type BaseBits, hasBaseBits } from '../models/base-bits.ts';
import { writeDurably } from '../models/durable.ts';
import { readJsonObject } from '../models/json.ts';
import type { ModelShape } from '../models/targets.ts';
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
/** Measured in this order: of two that are about as fast, the first is taken. */
const CANDIDATES: readonly EngineName[] = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'];
/** An engine must be so much faster than one before it: single operations tell no more than that. */
const ADVANTAGE = 1.25;
/** A driver that was installed since is found after so long at the latest; `swarm doctor` measures at once. */
const VALID_MS = 7 * 24 * 3_600_000;
const MAX_RECORD_BYTES = 64 * 1024;

/** What a training step of a model takes, in the size that engines are compared in. @param checkpointing Default: false. */
export function comparedWork(model: ModelShape, checkpointing = false) {
  const sequenceLength = Math.min(LENGTH, model.config.maxPositions);
  const training = trainingConfigSchema.parse({ batchSize: ROWS, microBatch: ROWS, sequenceLength });
  const { work, memory } = estimateTraining(model, { lora: loraConfig({}), training, checkpointing });
  return { work, memory, rows: ROWS, sequenceLength };
}

/** Tokens per second that a probe promises for a model. */
export function promisedSpeed(
  model: ModelShape,
  speed: NonNullable<EngineProbe['speed']>,
  precision: Precision = 'float32',
): number {
  const { work, rows, sequenceLength } = comparedWork(model);
  return (rows * sequenceLength) / secondsPerStep(work, speed, precision);
}

export interface ProbeMachineOptions {
  model: ModelShape;
  threads: number;
  signal: AbortSignal;
}

/** Measures every engine for a model, one after the other, and remembers the choice that follows. */
export async function probeMachine(
  options: ProbeMachineOptions & { recordDir: string; now: number },
  deps: { probe?: typeof probeEngine } = {},
): Promise<{ probes: EngineProbe[]; chosen: ChosenEngine }> {
  const probes = await probeAll(CANDIDATES, options, deps);
  const chosen = best(options.model, probes);
  await remember(options, chosen);
  return { probes, chosen };
}

export interface ChooseOptions extends ProbeMachineOptions {
  /** What was asked for. */
  engine: EngineChoice;
  baseBits: BaseBits;
  /** Where choices are remembered. */
  recordDir: string;
  /** Milliseconds since 1970. */
  now: number;
}

/** The engine that was asked for; for `auto` the fastest one for this base. @throws the signal's reason */
export async function chooseEngine(
  options: ChooseOptions,
  deps: { probe?: typeof probeEngine } = {},
): Promise<ChosenEngine> {
  const { engine, baseBits, model } = options;
  if (engine !== 'auto') return { engine, reason: 'as asked for' };
  const known = await recall(options);
  if (known !== null) return known;
  const others = await probeAll(
    CANDIDATES.filter((name) => name !== 'onnx-cpu' && hasBaseBits(baseBits, name)),
    options,
    deps,
  );
  // Where nothing else runs there is nothing to compare.
  const usable = others.some(({ speed }) => speed !== null);
  const probes = usable ? [...(await probeAll(['onnx-cpu'], options, deps)), ...others] : others;
  const chosen = best(model, probes);
  await remember(options, chosen);
  return chosen;
}

async function probeAll(
  engines: readonly EngineName[],
  { model, threads, signal }: ProbeMachineOptions,
  { probe = probeEngine }: { probe?: typeof probeEngine },
): Promise<EngineProbe[]> {
  const { rows, sequenceLength } = comparedWork(model);
  const request = { threads, tokens: rows * sequenceLength, width: model.config.hiddenSize, signal };
  const probes: EngineProbe[] = [];
  // One after the other: together they would measure each other.
  for (const engine of engines) probes.push(await probe({ ...request, engine }));
  return probes;
}

/** @param probes of engines in the order of CANDIDATES; without onnx-cpu where no other is of use */
function best(model: ModelShape, probes: readonly EngineProbe[]): ChosenEngine {
  const measured = probes.flatMap(({ engine, speed }) =>
    speed === null ? [] : [{ engine, tokens: promisedSpeed(model, speed) }],
  );
  const software = probes.find((probe) => probe.software);
  if (measured.every(({ engine }) => engine === 'onnx-cpu')) {
    const found =
      software === undefined ? 'no GPU was found' : `${software.engine} found no GPU, only a software driver`;
    return { engine: 'onnx-cpu', reason: found };
  }
  const fastest = measured.reduce((best, next) => (next.tokens > ADVANTAGE * best.tokens ? next : best));
  const others = measured
    .filter((other) => other !== fastest)
    .map(({ engine, tokens }) => `${engine} ${Math.round(tokens)}`);
  const speeds = others.length === 0 ? '' : `; ${others.join(', ')}`;
  return { engine: fastest.engine, reason: `about ${Math.round(fastest.tokens)} tokens/s${speeds}` };
}

const recordSchema = z.object({ engine: z.enum(ENGINE_NAMES), reason: z.string(), at: z.number() });

type RecordOptions = ProbeMachineOptions & { recordDir: string; now: number; baseBits?: BaseBits };

/** One file per machine, base and number of threads; the base by its shape, which is all that its speed depends on. */
function recordFile({ model, threads, recordDir, baseBits = 32 }: RecordOptions): string {
  const machine = [hostname(), process.platform, process.arch, cpus()[0]?.model ?? '', cpus().length];
  const key = sha256(encodeCbor({ machine, threads, baseBits, config: JSON.stringify(model.config) }));
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
    await writeDurably(path, (file) => file.writeFile(JSON.stringify({ ...chosen, at: options.now })));
  } catch {}
}
