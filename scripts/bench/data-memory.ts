/** Measures the memory of reading data: writes a data set, and reads or packs it in a process with a limited heap. */
import { spawn } from 'node:child_process';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions, BenchRow } from '../bench.ts';

const MIB = 1024 * 1024;
/** The rows of the file repeat after this many bytes. */
const BLOCK_BYTES = MIB;
/**
 * Heap limit of the measured process in MiB. A process that needs more heap is aborted. Packing needs no more
 * heap than reading, but V8 also counts the buffers of packing when it decides how often to collect garbage.
 * With a limit below about 150 MiB, V8 would therefore spend most of the packing time on garbage collection.
 */
const HEAP_LIMIT = { read: 128, pack: 192 };

export interface MemoryResult {
  examples: number;
  /** Largest resident set of the process, in MiB. */
  peak: number;
  /**
   * Heap and buffers in use when 90 % of the file is packed, in MiB; null if the file is read without
   * packing.
   */
  inUse: number | null;
  seconds: number;
}

/** Writes conversations of about 1 kB each, as JSON lines. @returns their number */
export async function writeConversations(path: string, megabytes: number): Promise<number> {
  const rows: string[] = [];
  for (let length = 0, row = 0; length < BLOCK_BYTES; row++) {
    const text = JSON.stringify({
      messages: [
        { role: 'user', content: `Question ${row}: what is a whale? ${'It swims. '.repeat(20)}` },
        { role: 'assistant', content: 'A "fish" of sorts,\nsays Ishmaël. '.repeat(20) },
      ],
    });
    length += Buffer.byteLength(text) + 1;
    rows.push(text);
  }
  const block = Buffer.from(`${rows.join('\n')}\n`);
  const file: FileHandle = await open(path, 'w');
  try {
    const blocks = Math.ceil((megabytes * MIB) / block.length);
    for (let i = 0; i < blocks; i++) await file.write(block);
    return blocks * rows.length;
  } finally {
    await file.close();
  }
}

/** Reads or packs a file in a separate process, and returns the memory and the time that the process needed. */
export async function measure(mode: 'read' | 'pack', path: string): Promise<MemoryResult> {
  const worker = join(import.meta.dirname, 'data-memory-worker.ts');
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${HEAP_LIMIT[mode]}`, '--expose-gc', worker, mode, path],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`the ${mode} process ended with ${code}`);
  return JSON.parse(output) as MemoryResult;
}

export const name = 'data-memory';
export const about = 'peak memory while reading 2 GiB of conversations (about a minute)';

/** Limit on the peak memory of the reading process, in MiB. Node.js alone takes about 60. */
const TARGET_MIB = 300;

export async function run(report: (row: BenchRow) => void, { quick = false }: BenchOptions): Promise<void> {
  const megabytes = quick ? 16 : 2048;
  const dir = await mkdtemp(join(tmpdir(), 'data-memory-'));
  try {
    const path = join(dir, 'data.jsonl');
    const rows = await writeConversations(path, megabytes);
    const { examples, peak, seconds } = await measure('read', path);
    if (examples !== rows) throw new Error(`${examples} of ${rows} conversations were read`);
    report({
      name: 'peak memory while reading',
      value: peak,
      unit: 'MiB',
      target: TARGET_MIB,
      met: peak <= TARGET_MIB,
      reference: `${megabytes} MiB of conversations in ${seconds.toFixed(0)} s`,
    });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
