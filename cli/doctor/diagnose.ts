import { ENGINE_NAMES, type EngineName } from '../../lora/engines/names.ts';
import { openModel } from '../../lora/models/model.ts';
import { decideCheckpointing } from '../../lora/train/checkpointing.ts';
import { type ChosenEngine, comparedWork, probeMachine, promisedSpeed } from '../../lora/train/choose.ts';
import { fitsMemory, speedOfBaseBits } from '../../lora/train/estimate.ts';
import { type EngineProbe, probeEngine } from '../../lora/train/probe.ts';
import { describeMachine, type MachineReport } from './machine.ts';

export interface EngineReport extends EngineProbe {
  /** Predicted tokens per second that a training of the base would reach; null without a base or a speed. */
  readonly tokensPerSecond: number | null;
  /** The same with `--precision float16`; null too where the device does not have it. */
  readonly tokensPerSecondInFloat16: number | null;
  /** The same with `--base-bits 8`; null too where it is not known to be faster. */
  readonly tokensPerSecondIn8Bits: number | null;
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
  readonly chosen: ChosenEngine;
}

export interface Diagnosis {
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

export interface DiagnoseOptions {
  /** Folder of a base. @default null */
  modelDir: string | null;
  threads: number;
  recordDir: string;
  now: number;
  signal: AbortSignal;
}

/** Large enough that products of any base are no faster. */
const MEASURED = { tokens: 2048, width: 1024 };

/** Measures every engine, each in a process of its own; with a base also what it promises for it. */
export async function diagnose(
  { modelDir, threads, recordDir, now, signal }: DiagnoseOptions,
  deps: { probe?: typeof probeEngine } = {},
): Promise<Diagnosis> {
  const machine = await describeMachine();
  if (modelDir === null) {
    const engines = await probeEach({ ...MEASURED, threads, signal }, deps);
    return { machine, threads, measured: MEASURED, engines, base: null, problems: problemsOf(engines) };
  }
  const model = await openModel(modelDir);
  const available = machine.availableMemory;
  const takes = (checkpointing: boolean) => comparedWork(model, checkpointing).memory.total;
  const { checkpointing } = decideCheckpointing('auto', {
    devices: [{ engine: ALWAYS_THERE }],
    baseBits: 32,
    available,
    takes,
  });
  const { memory, rows, sequenceLength } = comparedWork(model, checkpointing);
  const { probes, chosen } = await probeMachine({ model, threads, recordDir, now, signal }, deps);
  const { instructions } = machine;
  const engines = probes.map((probe) => {
    const { engine, speed } = probe;
    const tokensPerSecond = speed && promisedSpeed(model, speed);
    const faster = speedOfBaseBits(8, { engine, instructions });
    return {
      ...probe,
      tokensPerSecond,
      tokensPerSecondInFloat16: speed?.float16Flops ? promisedSpeed(model, speed, 'float16') : null,
      tokensPerSecondIn8Bits: tokensPerSecond !== null && faster > 1 ? faster * tokensPerSecond : null,
    };
  });
  const problems = problemsOf(engines);
  if (!fitsMemory(memory.total, available)) {
    problems.push(
      `training ${rows} rows of ${sequenceLength} tokens takes ${memory.total} bytes of memory on the processor, with gradient checkpointing, and a quarter to spare, ${available} are available: --micro-batch 1 and --base-bits 4 take less`,
    );
  }
  return {
    machine,
    threads,
    measured: { tokens: rows * sequenceLength, width: model.config.hiddenSize },
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

async function probeEach(
  request: { tokens: number; width: number; threads: number; signal: AbortSignal },
  { probe = probeEngine }: { probe?: typeof probeEngine },
): Promise<EngineReport[]> {
  const reports: EngineReport[] = [];
  for (const engine of ENGINE_NAMES) {
    const found = await probe({ ...request, engine });
    reports.push({
      ...found,
      tokensPerSecond: null,
      tokensPerSecondInFloat16: null,
      tokensPerSecondIn8Bits: null,
    });
  }
  return reports;
}

function problemsOf(engines: readonly EngineReport[]): string[] {
  const broken = engines.find(({ engine, speed }) => engine === ALWAYS_THERE && speed === null);
  return broken === undefined
    ? []
    : [`${ALWAYS_THERE} does not run: ${broken.reason}; install lora-swarm again`];
}

const ALWAYS_THERE: EngineName = 'onnx-cpu';
