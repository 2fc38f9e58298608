import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { availableMemory } from '../../lora/train/available-memory.ts';

/** Facts about the machine that need no measurement. */
export interface MachineReport {
  readonly platform: string;
  readonly node: string;
  readonly processor: string;
  /** Threads that this process can run at the same time. */
  readonly threads: number;
  /** Bytes of memory: all of the machine's, and those still available to this process. */
  readonly memory: number;
  readonly availableMemory: number;
  /** Vector instructions of the processor; null where the system does not report them. */
  readonly instructions: readonly string[] | null;
}

/** Names in Linux and macOS: x64 first, then ARM. */
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
  const flags = process.platform === 'darwin' ? await macFlags() : await linuxFlags();
  if (flags === null) return null;
  const found = new Set(flags.toLowerCase().split(/\s+/));
  return INSTRUCTIONS.filter((name) => found.has(name));
}

/** "flags : …" on x64, "Features : …" on ARM. */
async function linuxFlags(): Promise<string | null> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  return /^(?:flags|Features)\s*:\s*(.+)$/m.exec(text)?.[1] ?? null;
}

/** macOS reports each ARM feature as a setting: "hw.optional.arm.FEAT_BF16: 1". */
async function macFlags(): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)('sysctl', ['hw.optional.arm'], { timeout: 5_000 });
    const features = [...stdout.matchAll(/FEAT_(\w+): 1/g)].map(([, name]) => name!.toLowerCase());
    return ['asimd', ...features.map((name) => (name === 'dotprod' ? 'asimddp' : name))].join(' ');
  } catch {
    return null;
  }
}
