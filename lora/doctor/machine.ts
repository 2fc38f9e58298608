import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { availableMemory } from '../train/memory/available-memory.ts';

/** Facts about the machine that need no measurement. */
export interface MachineReport {
  /** Operating system and architecture, such as "linux x64". */
  readonly platform: string;
  /** Version of Node.js, such as "v24.1.0". */
  readonly node: string;
  /** Model name of the processor; "unknown" if the system does not report it. */
  readonly processor: string;
  /** Number of threads that this process can run at the same time. */
  readonly threads: number;
  /** Bytes of the machine's memory. */
  readonly memory: number;
  /** Bytes of memory that this process and its children can still allocate. */
  readonly availableMemory: number;
  /** Vector instructions of the processor, by Linux's names; null if the system does not report them. */
  readonly instructions: readonly string[] | null;
}

/** Vector instructions that speed up matrix products: those of x64, then those of ARM. */
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

/** Returns the INSTRUCTIONS that the processor has. */
async function instructionSets(): Promise<string[] | null> {
  const flags = process.platform === 'darwin' ? await macFlags() : await linuxFlags();
  if (flags === null) return null;
  const found = new Set(flags.toLowerCase().split(/\s+/));
  return INSTRUCTIONS.filter((name) => found.has(name));
}

/** Reads /proc/cpuinfo, which has a line "flags : …" on x64 and "Features : …" on ARM. */
async function linuxFlags(): Promise<string | null> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  return /^(?:flags|Features)\s*:\s*(.+)$/m.exec(text)?.[1] ?? null;
}

/** Reads the processor's ARM features from sysctl, which lists each as a setting: "hw.optional.arm.FEAT_BF16: 1". */
async function macFlags(): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)('sysctl', ['hw.optional.arm'], { timeout: 5_000 });
    const features = [...stdout.matchAll(/FEAT_(\w+): 1/g)].map(([, name]) => name!.toLowerCase());
    return ['asimd', ...features.map((name) => (name === 'dotprod' ? 'asimddp' : name))].join(' ');
  } catch {
    return null;
  }
}
