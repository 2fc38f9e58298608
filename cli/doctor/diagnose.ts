import { formatBytes } from '../../common/text.ts';
import { ENGINE_NAMES, type EngineName } from '../../lora/engines/names.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import { openBase } from '../../lora/models/base-model.ts';
import type { ModelShape } from '../../lora/models/targets.ts';
import { type ChosenEngine, probeMachine } from '../../lora/train/choose.ts';
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
  /** What it cannot do of what was asked for, as the end of a sentence about it; null where it can, or is not there. */
  readonly lacks: string | null;
  /** Predicted tokens per second that a training of the base would reach; null without a base or a speed. */
  readonly tokensPerSecond: number | null;
  /** The same with `--precision float16`; null too where the device does not have it. */
  readonly tokensPerSecondInFloat16: number | null;
}

export interface BaseReport {
  readonly model: string;
  readonly parameters: number;
  /** Rows and tokens of a row of the training that is estimated. */
  readonly rows: number;
  readonly sequenceLength: number;
  /** Bytes that it takes on the processor. */
  readonly memory: number;
  /** Whether that is with gradient checkpointing, which training turns on by itself where it does not fit without. */
  readonly checkpointing: boolean;
  /** What `auto` takes; null where nothing computes as asked for. */
  readonly chosen: ChosenEngine | null;
}

export interface Diagnosis extends Formats {
  readonly machine: MachineReport;
  /** Threads that were measured with. */
  readonly threads: number;
  /** Tokens and width of the products that were measured. */
  readonly measured: { readonly tokens: number; readonly width: number };
  readonly engines: readonly EngineReport[];
  /** null where none was named. */
  readonly base: BaseReport | null;
  /** What keeps this machine from training; empty where nothing does. */
  readonly problems: readonly string[];
}

export interface DiagnoseOptions extends ProbeOptions {
  /** Folder of a base; null for none. */
  modelDir: string | null;
  recordDir: string;
  now: number;
}

/** Large enough that products of any base are no faster. */
const MEASURED = { tokens: 2048, width: 1024 };

/** Measures every engine, each in a process of its own; with a base also what it promises for it. */
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
  // What a GPU has of its own is not known before it is full.
  const onProcessor = usesProcessor({ devices: [chosen ?? { engine: ALWAYS_THERE }] });
  if (onProcessor && !fitsMemory(memory.total, available)) {
    const less = `--micro-batch 1${baseBits === 4 ? '' : ' --base-bits 4'}`;
    problems.push(
      `training ${rows} rows of ${sequenceLength} tokens takes ${formatBytes(memory.total)} of memory on the processor, with gradient checkpointing, and a quarter to spare, and ${formatBytes(available)} are available; "swarm train ${less}" takes less`,
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
  if (broken !== undefined)
    return [`${ALWAYS_THERE} does not run: ${broken.reason}; install lora-swarm again`];
  if (precision === 'float32' || engines.some((one) => one.speed !== null && one.lacks === null)) return [];
  return [
    `none of its engines computes in ${precision}: take --precision float32, or see above what the engines of a GPU need`,
  ];
}

const ALWAYS_THERE: EngineName = 'onnx-cpu';
