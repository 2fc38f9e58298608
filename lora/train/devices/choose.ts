/**
 * Chooses the engine with which a machine trains a base. Each engine is measured, and the fastest one that runs is
 * chosen. The choice is stored.
 */

import { mkdir } from 'node:fs/promises';
import { cpus, hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { SwarmError } from '../../../common/errors.ts';
import { writeDurably } from '../../../common/files/durable.ts';
import { encodeCbor, sha256 } from '../../../protocol/cbor.ts';
import { engineError } from '../../engines/errors.ts';
import { deviceName, ENGINE_NAMES, type EngineName } from '../../engines/names.ts';
import { FLOAT16_ENGINES } from '../../engines/precision.ts';
import { baseText } from '../../models/base/base-bits.ts';
import { readJsonObject } from '../../models/json.ts';
import type { ModelShape } from '../../models/targets.ts';
import type { Compute, ComputeOnDevices } from '../compute.ts';
import {
  type Formats,
  missingFormat,
  type ProbeDeps,
  type ProbeOptions,
  predictedSpeed,
  probeAgain,
  probeEngines,
  probeSize,
} from './compare-engines.ts';
import { driverTraces } from './driver-traces.ts';
import { type EngineProbe, tryDevice } from './probe.ts';

/** The chosen engine, and the reason in a few words. */
export interface ChosenEngine {
  readonly engine: EngineName;
  readonly reason: string;
}

/** The engine that runs on every machine. */
const PROCESSOR: EngineName = 'onnx-cpu';
/** Engines in the order of preference, which decides between engines of about the same speed. */
const CANDIDATES: readonly EngineName[] = ['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs'];
/**
 * An engine is preferred to an earlier candidate only if it is more than this many times as fast. Smaller
 * differences between measurements of single operations mean little.
 */
const ADVANTAGE = 1.25;
/**
 * Time until a stored choice expires, so that changes are noticed that `driverTraces` misses. `lora-swarm doctor` measures
 * again even before that time.
 */
const VALID_MS = 7 * 24 * 3_600_000;
const MAX_RECORD_BYTES = 64 * 1024;
const NO_GPU = 'no GPU was found';
const SOFTWARE = 'found only a software driver, no GPU';

/** Options for choosing the engine that trains a model on this machine. */
export interface ChooseOptions extends Omit<ProbeOptions, 'compute'> {
  model: ModelShape;
  /** Folder where chosen engines are stored. */
  recordDir: string;
  /** The current time, in milliseconds since 1970. */
  now: number;
}

type MachineOptions = ChooseOptions & Pick<ProbeOptions, 'compute'>;

/**
 * Measures every engine for a model and stores the resulting choice. `chosen` is null if float16 is requested and no
 * engine supports it.
 */
export async function probeMachine(
  options: MachineOptions,
  deps: ProbeDeps = {},
): Promise<{ probes: EngineProbe[]; chosen: ChosenEngine | null }> {
  const sized = { ...options, ...probeSize(options.model) };
  const probes = await probeAgain(await probeEngines(CANDIDATES, sized, deps), sized, deps);
  const chosen = best(options, probes);
  if (chosen !== null) await remember(options, chosen);
  return { probes, chosen };
}

/**
 * Resolves `devices: 'auto'` to the fastest engine for this base with the given base bits and precision. Uses the
 * stored choice if it is valid, and measures the engines otherwise. Named devices stay unchanged.
 *
 * @returns `reason`: why `auto` chose the engine; null for named devices
 * @throws SwarmError PRECISION if `auto` finds no engine for float16; the signal's reason
 */
export async function resolveDevices(
  compute: Compute,
  options: ChooseOptions,
  deps: ProbeDeps = {},
): Promise<{ compute: ComputeOnDevices; reason: string | null }> {
  const { devices } = compute;
  if (devices !== 'auto') return { compute: { ...compute, devices }, reason: null };
  const { engine, reason } = await chooseEngine({ ...options, compute }, deps);
  return {
    compute: { ...compute, devices: [{ engine }] },
    reason: reason.replace(NO_GPU, `${NO_GPU} ("lora-swarm doctor" shows what is missing)`),
  };
}

async function chooseEngine(options: MachineOptions, deps: ProbeDeps): Promise<ChosenEngine> {
  const known = await recall(options);
  if (known !== null) return known;
  const { compute, model } = options;
  const sized = { ...options, ...probeSize(model) };
  const gpus = await probeEngines(
    CANDIDATES.filter((name) => name !== PROCESSOR),
    sized,
    deps,
  );
  // The processor is measured only if there is another engine to compare it with.
  const usable = gpus.some((probe) => isCandidate(probe, compute));
  const probes = usable
    ? await probeAgain([...gpus, ...(await probeEngines([PROCESSOR], sized, deps))], sized, deps)
    : gpus;
  const chosen = best(options, probes);
  if (chosen === null) throw noFloat16(gpus);
  await remember(options, chosen);
  return chosen;
}

/**
 * Starts the engine of every named device, each in a separate process, so that a missing device is reported before any
 * other work begins. onnx-cpu runs on every machine, so it is not tried.
 *
 * @throws SwarmError ENGINE_UNAVAILABLE; PRECISION for float16 on a device without it; the signal's reason
 */
export async function requireDevices(
  { devices, threads, precision }: ComputeOnDevices,
  { signal }: { signal: AbortSignal },
  { attempt = tryDevice }: { attempt?: typeof tryDevice } = {},
): Promise<void> {
  for (const device of devices.filter(({ engine }) => engine !== PROCESSOR)) {
    const result = await attempt({ ...device, threads, signal });
    const name = deviceName(device);
    if ('reason' in result) {
      const { reason, needs } = result;
      const next =
        needs === null ? undefined : `use --engine ${PROCESSOR}, which runs on every machine; or ${needs}`;
      throw engineError(
        'ENGINE_UNAVAILABLE',
        `${name} does not run on this machine: ${reason}`,
        { engine: device.engine, reason, needs },
        { next },
      );
    }
    if (precision === 'float16' && !result.float16) {
      throw engineError(
        'PRECISION',
        `the device of ${name} cannot compute in float16`,
        { engine: device.engine, precision },
        { next: 'use --precision float32' },
      );
    }
  }
}

/**
 * Returns a text about a named device that is only a software driver, which computes many times slower than onnx-cpu. Null
 * if there is none, or if it cannot be recognised without a measurement.
 * @throws the signal's reason
 */
export async function softwareReason(
  { devices, threads }: ComputeOnDevices,
  { signal }: { signal: AbortSignal },
  { attempt = tryDevice }: { attempt?: typeof tryDevice } = {},
): Promise<string | null> {
  const device = devices.find(({ engine }) => engine === 'onnx-webgpu');
  if (device === undefined) return null;
  const { software } = await attempt({ ...device, threads, signal });
  return software ? `${deviceName(device)} ${SOFTWARE}` : null;
}

/**
 * Returns whether `auto` may choose an engine. `auto` never chooses TensorFlow on a processor, because
 * onnxruntime is faster there. A measurement cannot decide this: on a machine under load, TensorFlow seemed
 * faster in 3 of 7 measurements.
 */
function isCandidate(probe: EngineProbe, formats: Formats): boolean {
  return probe.speed !== null && probe.onProcessor !== true && missingFormat(probe, formats) === null;
}

function noFloat16(probes: readonly EngineProbe[]): SwarmError {
  const reasons = probes
    .filter(({ engine }) => FLOAT16_ENGINES.includes(engine))
    .map(({ engine, speed, reason }) => `${engine}: ${speed === null ? reason : 'its device lacks float16'}`);
  return engineError(
    'PRECISION',
    `no engine of this machine can compute in float16 (${reasons.join('; ')})`,
    {},
    { next: 'use --precision float32; "lora-swarm doctor" shows what each engine needs' },
  );
}

/**
 * Picks the fastest engine; null if float16 is requested and no engine supports it.
 * @param probes may lack the processor's probe if no other engine can be chosen
 */
function best({ model, compute }: MachineOptions, probes: readonly EngineProbe[]): ChosenEngine | null {
  const { baseBits, precision } = compute;
  const formats = { baseBits, precision };
  const measured = CANDIDATES.flatMap((engine) => {
    const probe = probes.find((one) => one.engine === engine);
    const tokens = probe && isCandidate(probe, formats) ? predictedSpeed(model, probe, formats) : null;
    return tokens === null ? [] : [{ engine, tokens }];
  });
  const skipped = probes.flatMap((probe) => {
    if (probe.onProcessor) return [`${probe.engine} would compute on the processor`];
    const reason = missingFormat(probe, formats);
    return reason === null || probe.engine === PROCESSOR ? [] : [`${probe.engine} ${reason}`];
  });
  if (measured.every(({ engine }) => engine === PROCESSOR)) {
    if (precision === 'float16') return null;
    const software = probes.find((probe) => probe.software);
    const found = software === undefined ? NO_GPU : `${software.engine} ${SOFTWARE}`;
    return { engine: PROCESSOR, reason: [found, ...skipped].join('; ') };
  }
  const fastest = measured.reduce((best, next) => (next.tokens > ADVANTAGE * best.tokens ? next : best));
  const others = measured
    .filter((other) => other !== fastest)
    .map(({ engine, tokens }) => `${engine} ${count(tokens)}`);
  const speed = `about ${count(fastest.tokens)} tokens/s${formatsText(formats)}`;
  const reasons = [speed, ...(others.length === 0 ? [] : [others.join(', ')]), ...skipped];
  return { engine: fastest.engine, reason: reasons.join('; ') };
}

function count(tokens: number): string {
  return Math.round(tokens).toLocaleString('en-US');
}

/** Returns words for the base bits and the precision that were measured; an empty text for the defaults. */
function formatsText({ baseBits, precision }: Formats): string {
  return `${baseBits === 32 ? '' : ` with ${baseText(baseBits)}`}${precision === 'float32' ? '' : ` in ${precision}`}`;
}

const recordSchema = z.object({ engine: z.enum(ENGINE_NAMES), reason: z.string(), at: z.number() });

/**
 * Returns the path of the stored choice. There is one file for each combination of machine, drivers, config of the base,
 * formats and number of threads. The speed depends on no other property of the base.
 */
async function recordFile(options: MachineOptions): Promise<string> {
  const { model, compute, recordDir } = options;
  const { threads, baseBits, precision } = compute;
  const processor = [cpus()[0]?.model ?? '', cpus().length];
  const machine = [hostname(), process.platform, process.arch, ...processor, ...(await driverTraces())];
  const key = sha256(
    encodeCbor({ machine, threads, baseBits, precision, config: JSON.stringify(model.config) }),
  );
  return join(recordDir, `${key}.json`);
}

async function recall(options: MachineOptions): Promise<ChosenEngine | null> {
  try {
    const { engine, reason, at } = recordSchema.parse(
      await readJsonObject(await recordFile(options), MAX_RECORD_BYTES),
    );
    const age = options.now - at;
    if (age < 0 || age > VALID_MS) return null;
    const date = new Date(at).toISOString().slice(0, 10);
    const again = `to measure again, delete ${options.recordDir}`;
    return { engine, reason: `${reason}; measured on ${date} (${again})` };
  } catch {
    return null;
  }
}

/** Stores a choice. Ignores errors, because a stored choice only saves time. */
async function remember(options: MachineOptions, chosen: ChosenEngine): Promise<void> {
  try {
    const path = await recordFile(options);
    await mkdir(join(path, '..'), { recursive: true });
    await writeDurably(path, JSON.stringify({ ...chosen, at: options.now }));
  } catch {}
}
