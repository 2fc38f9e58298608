import { formatBytes } from '../../common/text.ts';
import type { ChosenEngine, EngineName } from '../../index.ts';
import { ENGINE_NAMES } from '../../lora/engines/names.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import { openBase } from '../../lora/models/base-model.ts';
import type { ModelShape } from '../../lora/models/targets.ts';
import { probeMachine } from '../../lora/train/choose.ts';
import {
  comparedCheckpointing,
  comparedWork,
  type Formats,
  missingFormat,
  type ProbeDeps,
  type ProbeOptions,
  predictedSpeed,
  probeEngines,
  probeSize,
} from '../../lora/train/compare-engines.ts';
import { fitsMemory } from '../../lora/train/estimate.ts';
import type { EngineProbe } from '../../lora/train/probe.ts';
import { usesProcessor } from '../../lora/train/trainers.ts';
import { describeMachine, type MachineReport } from './machine.ts';

export interface EngineReport extends EngineProbe {
  /** Which of the asked formats it lacks, to follow the engine's name; null where it has all, or does not run. */
  readonly lacks: string | null;
  /** Predicted tokens per second of a training; null without a base or a measurement. */
  readonly tokensPerSecond: number | null;
  /** Predicted tokens per second with `--precision float16`; null also where the device lacks it. */
  readonly tokensPerSecondInFloat16: number | null;
}

export interface BaseReport {
  readonly model: string;
  readonly parameters: number;
  /** Rows of a batch and tokens of a row in the estimated training. */
  readonly rows: number;
  readonly sequenceLength: number;
  /** Bytes of memory that it needs on the processor. */
  readonly memory: number;
  /** Whether the estimate has gradient checkpointing, which turns itself on where memory is short. */
  readonly checkpointing: boolean;
  /** The engine that `auto` chooses; null where no engine has the formats. */
  readonly chosen: ChosenEngine | null;
}

export interface Diagnosis extends Formats {
  readonly machine: MachineReport;
  /** Threads used for the measurements. */
  readonly threads: number;
  /** Tokens and width of the measured products. */
  readonly measured: { readonly tokens: number; readonly width: number };
  readonly engines: readonly EngineReport[];
  /** null without a base. */
  readonly base: BaseReport | null;
  /** Reasons why this machine cannot train; empty where it can. */
  readonly problems: readonly string[];
}

export interface DiagnoseOptions extends ProbeOptions {
  /** Folder of a base; null for none. */
  modelDir: string | null;
  recordDir: string;
  now: number;
}

/** Size of measured products without a base: larger ones are no faster. */
const MEASURED = { tokens: 2048, width: 1024 };

/** Measures every engine in a process of its own. With a base it also predicts memory and speed of a training. */
export async function diagnose(
  { modelDir, ...options }: DiagnoseOptions,
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
  const { probes, chosen } = await probeMachine({ ...options, model }, deps);
  const engines = probes.map((probe) => report(probe, model, known));
  const problems = problemsOf(engines, precision);
  const available = machine.availableMemory;
  const checkpointing = comparedCheckpointing(model, { engine: ALWAYS_THERE, baseBits, available });
  const { memory, rows, sequenceLength } = comparedWork(model, { checkpointing, baseBits });
  // The size of a GPU's memory is unknown.
  const onProcessor = usesProcessor({ devices: [chosen ?? { engine: ALWAYS_THERE }] });
  if (onProcessor && !fitsMemory(memory.total, available)) {
    const less = `--micro-batch 1${baseBits === 4 ? '' : ' --base-bits 4'}`;
    problems.push(
      `training ${rows} rows of ${sequenceLength} tokens needs ${formatBytes(memory.total)} of memory plus a quarter in reserve on the processor, even with gradient checkpointing, and ${formatBytes(available)} are available; "swarm train ${less}" needs less`,
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
  const broken = engines.find(
    (one) => one.engine === ALWAYS_THERE && one.speed === null && one.lacks === null,
  );
  if (broken !== undefined) return [`${ALWAYS_THERE} does not run: ${broken.reason}; reinstall lora-swarm`];
  if (precision === 'float32' || engines.some((one) => one.speed !== null && one.lacks === null)) return [];
  return [
    `no engine can compute in ${precision}: use --precision float32, or see above what the GPU engines need`,
  ];
}

const ALWAYS_THERE: EngineName = 'onnx-cpu';
