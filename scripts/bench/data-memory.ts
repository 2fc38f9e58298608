/**
 * Measures the memory of reading or packing a generated data set, in a process with a limited heap.
 *
 *     node scripts/bench/data-memory.ts [read|pack] [megabytes]     default: read 2048
 */
import { spawn } from 'node:child_process';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MIB = 1024 * 1024;
/** Rows repeat after this many bytes. */
const BLOCK_BYTES = MIB;
/**
 * Heap limit of the process in MiB; exceeding it ends the process. Packing needs no more heap than reading, but its buffers
 * count towards V8's trigger for garbage collection: below about 150 MiB it does little else.
 */
const HEAP_LIMIT = { read: 128, pack: 192 };

export interface MemoryResult {
  examples: number;
  /** Largest resident set of the process, MiB. */
  peak: number;
  /** Memory in use when 90 % of the file is packed, MiB; null for `read`. */
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

/** Reads or packs a file in a process of its own. */
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

if (import.meta.main) {
  const [mode = 'read', megabytes = '2048'] = process.argv.slice(2);
  if (mode !== 'read' && mode !== 'pack') throw new Error('use read or pack');
  const dir = await mkdtemp(join(tmpdir(), 'data-memory-'));
  try {
    const path = join(dir, 'data.jsonl');
    const rows = await writeConversations(path, Number(megabytes));
    process.stdout.write(
      `${megabytes} MiB, ${rows} rows, ${mode}: ${JSON.stringify(await measure(mode, path))}\n`,
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
