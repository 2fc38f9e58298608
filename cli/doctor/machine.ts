import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { availableMemory } from '../../lora/train/available-memory.ts';

/** What training depends on that does not have to be measured. */
export interface MachineReport {
  readonly platform: string;
  readonly node: string;
  readonly processor: string;
  /** That this process may run at a time. */
  readonly threads: number;
  /** Bytes: of the machine, and what this process may still take of it. */
  readonly memory: number;
  readonly availableMemory: number;
  /** Of the processor, those that matrix products are made of; null where the system does not say. */
  readonly instructions: readonly string[] | null;
}

/** As Linux and macOS call them: x64 first, then ARM. */
const INSTRUCTIONS = [
  ...['avx', 'avx2', 'fma', 'f16c', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16'],
  ...['amx_tile', 'amx_int8', 'amx_bf16'],
  ...['asimd', 'asimdhp', 'asimddp', 'i8mm', 'bf16', 'sve', 'sve2', 'sme'],
];

export async function describeMachine(): Promise<MachineReport> {
  return {
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    processor: cpus()[0]?.model.trim() || 'unknown',
    threads: availableParallelism(),
    memory: totalmem(),
    availableMemory: availableMemory(),
    instructions: await instructionSets(),
  };
}

async function instructionSets(): Promise<string[] | null> {
  const said = process.platform === 'darwin' ? await ofMac() : await ofLinux();
  if (said === null) return null;
  const found = new Set(said.toLowerCase().split(/\s+/));
  return INSTRUCTIONS.filter((name) => found.has(name));
}

/** "flags : …" on x64, "Features : …" on ARM. */
async function ofLinux(): Promise<string | null> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  return /^(?:flags|Features)\s*:\s*(.+)$/m.exec(text)?.[1] ?? null;
}

/** Features of ARM are settings of their own: "hw.optional.arm.FEAT_BF16: 1". */
async function ofMac(): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)('sysctl', ['hw.optional.arm'], { timeout: 5_000 });
    const features = [...stdout.matchAll(/FEAT_(\w+): 1/g)].map(([, name]) => name!.toLowerCase());
    return ['asimd', ...features.map((name) => (name === 'dotprod' ? 'asimddp' : name))].join(' ');
  } catch {
    return null;
  }
}
