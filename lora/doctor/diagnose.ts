/** Checks whether this machine can train, and how fast. `lora-swarm doctor` prints the result. */
import { join } from 'node:path';
import { countOf, formatBytes } from '../../common/text.ts';
import { ENGINE_NAMES, type EngineName } from '../engines/names.ts';
import type { Precision } from '../engines/precision.ts';
import { openBase } from '../models/base/base-model.ts';
import type { ModelShape } from '../models/targets.ts';
import { type ChosenEngine, probeMachine } from '../train/devices/choose.ts';
import {
  comparedCheckpointing,
  comparedWork,
  type Formats,
  missingFormat,
  type ProbeDeps,
  type ProbeOptions,
  type ProbeSize,
  predictedSpeed,
  probeEngines,
  probeSize,
} from '../train/devices/compare-engines.ts';
import type { EngineProbe } from '../train/devices/probe.ts';
import { fitsMemory } from '../train/memory/estimate.ts';
import { usesProcessor } from '../train/memory/trainers.ts';
import { describeMachine, type MachineReport } from './machine.ts';

/** The engine that runs on every machine. */
const PROCESSOR: EngineName = 'onnx-cpu';
/** Size of the measured matrix products if no base is given. Larger products reach no higher speed. */
const MEASURED = { tokens: 2048, width: 1024 };

export interface EngineReport extends EngineProbe {
  /**
   * Text that says which of the requested base bits and precision the engine does not support (see `missingFormat`);
   * null if the engine supports both.
   */
  readonly lacks: string | null;
  /** Predicted training speed in tokens per second; null without a base, or if the engine cannot train it. */
  readonly tokensPerSecond: number | null;
  /**
   * Predicted speed with `--precision float16`; null for the same reasons, and if the device does not support float16.
   */
  readonly tokensPerSecondInFloat16: number | null;
}

/** A prediction for training one base. */
export interface BaseReport {
  /** Folder of the base. */
  readonly model: string;
  readonly parameters: number;
  /** Number of rows in a batch of the predicted run. */
  readonly rows: number;
  /** Number of tokens in a row of the predicted run. */
  readonly sequenceLength: number;
  /** Bytes of memory that training needs on the processor. */
  readonly memory: number;
  /**
   * Whether `memory` is an estimate with gradient checkpointing. Training turns gradient checkpointing on automatically
   * if memory is short.
   */
  readonly checkpointing: boolean;
  /** The engine that `auto` chooses; null if no engine supports the requested base bits and precision. */
  readonly chosen: ChosenEngine | null;
}

export interface Diagnosis extends Formats {
  readonly machine: MachineReport;
  /** Number of threads used for the measurements. */
  readonly threads: number;
  /** Size of the measured matrix products: tokens × width by width × (3 · width). */
  readonly measured: ProbeSize;
  readonly engines: readonly EngineReport[];
  /** Report about the base; null if no base was given. */
  readonly base: BaseReport | null;
  /** Reasons why this machine cannot train; empty if it can. */
  readonly problems: readonly string[];
}

export interface DiagnoseOptions extends ProbeOptions {
  /** Folder of a base; null for none. */
  modelDir: string | null;
  /** Folder that keeps the engine chosen for each base: the cache folder of `finetune`. */
  cacheDir: string;
  /** The current time, in milliseconds since 1970. */
  now: number;
}

/**
 * Measures every engine in a separate process. With a base it also predicts memory and training speed, and stores which
 * engine `auto` chooses for this base.
 *
 * @throws SwarmError MODEL_*; the signal's reason
 */
export async function diagnose(
  { modelDir, cacheDir, ...options }: DiagnoseOptions,
  deps: ProbeDeps = {},
): Promise<Diagnosis> {
  const { threads, baseBits, precision } = options.compute;
  const machine = await describeMachine();
  const known = { machine, threads, baseBits, precision };
  if (modelDir === null) {
    const probes = await probeEngines(ENGINE_NAMES, { ...options, ...MEASURED }, deps);
    const engines = probes.map((probe) => report(probe, null, known));
    return { ...known, measured: MEASURED, engines, base: null, problems: problemsOf(engines, precision) };
  }
  const model = await openBase(modelDir);
  const recordDir = join(cacheDir, 'engines');
  const { probes, chosen } = await probeMachine({ ...options, model, recordDir }, deps);
  const engines = probes.map((probe) => report(probe, model, known));
  const problems = problemsOf(engines, precision);
  const available = machine.availableMemory;
  const checkpointing = comparedCheckpointing(model, { engine: PROCESSOR, baseBits, available });
  const { memory, rows, sequenceLength } = comparedWork(model, { checkpointing, baseBits });
  // Memory is checked only for training on the processor, because the size of a GPU's memory is unknown.
  const onProcessor = usesProcessor({ devices: [chosen ?? { engine: PROCESSOR }] });
  if (onProcessor && !fitsMemory(memory.total, available)) {
    const less = `--micro-batch 1${baseBits === 4 ? '' : ' --base-bits 4'}`;
    problems.push(
      `training ${countOf(rows, 'row')} of ${sequenceLength} tokens on the processor needs ${formatBytes(memory.total)} of memory and a quarter more as a reserve, even with gradient checkpointing, but only ${formatBytes(available)} is available; "lora-swarm train ${less}" needs less`,
    );
  }
  return {
    ...known,
    measured: probeSize(model),
    engines,
    base: {
      model: modelDir,
      parameters: model.parameters,
      rows,
      sequenceLength,
      memory: memory.total,
      checkpointing,
      chosen,
    },
    problems,
  };
}

function report(
  probe: EngineProbe,
  model: ModelShape | null,
  { machine, baseBits, precision }: Formats & { machine: MachineReport },
): EngineReport {
  const available = machine.availableMemory;
  const speed = (precision: Precision) =>
    model && predictedSpeed(model, probe, { baseBits, precision, available });
  return {
    ...probe,
    lacks: missingFormat(probe, { baseBits, precision }),
    tokensPerSecond: speed(precision),
    tokensPerSecondInFloat16: speed('float16'),
  };
}

function problemsOf(engines: readonly EngineReport[], precision: Precision): string[] {
  const broken = engines.find((one) => one.engine === PROCESSOR && one.speed === null && one.lacks === null);
  if (broken !== undefined) return [`${PROCESSOR} does not run: ${broken.reason}; reinstall lora-swarm`];
  if (precision === 'float32' || engines.some((one) => one.speed !== null && one.lacks === null)) return [];
  return [
    `no engine of this machine can compute in ${precision}: use --precision float32, or see above what the GPU engines need`,
  ];
}
