import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { WeightFile } from '../engines/engine.ts';
import { describeBase } from './base.ts';
import { decodeFloats } from './dtypes.ts';
import type { Model } from './folder.ts';
import { floatDtype, tensorChunks } from './safetensors.ts';

/** Entries start at page boundaries, so that an engine can map them without copying. */
const ALIGNMENT_BYTES = 4096;

/** Tells apart the unfinished files of one process. */
let conversions = 0;

/**
 * The weights as one file of raw float32, converted once per base model and kept in `cacheDir` under the
 * base's digest. Memory stays at a few MiB whatever the model's size. The file appears whole or not at all,
 * also when several processes prepare the same model at once.
 *
 * @throws SwarmError TENSORS_TRUNCATED a file of the model shrank meanwhile
 */
export async function prepareWeights(
  model: Model,
  cacheDir: string,
  options: { signal?: AbortSignal } = {},
): Promise<WeightFile> {
  const { digest } = await describeBase(model.dir, options);
  const path = join(cacheDir, `${digest}.f32`);
  const { entries, size } = layOut(model);
  await mkdir(cacheDir, { recursive: true });
  if ((await sizeOf(path)) !== size) {
    await removeAbandoned(cacheDir, `${digest}.f32`);
    await convert(model, entries, size, path, options.signal);
  }
  return { path, entries };
}

function layOut(model: Model) {
  const entries = new Map<string, { offset: number; length: number; shape: readonly number[] }>();
  let size = 0;
  for (const { name, shape } of model.architecture.parameters(model.config)) {
    const length = shape.reduce((product, n) => product * n, Float32Array.BYTES_PER_ELEMENT);
    entries.set(name, { offset: size, length, shape });
    size += Math.ceil(length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  }
  return { entries, size };
}

async function convert(
  model: Model,
  entries: WeightFile['entries'],
  size: number,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  const partial = `${path}.${process.pid}-${conversions++}.partial`;
  const handle = await open(partial, 'w');
  try {
    try {
      await handle.truncate(size);
      for (const [name, { offset }] of entries) {
        const { file, entry } = model.tensors.get(name)!;
        const dtype = floatDtype(file, name, entry.dtype);
        let position = offset;
        for await (const chunk of tensorChunks(join(model.dir, file), entry)) {
          signal?.throwIfAborted();
          const values = decodeFloats(chunk, dtype);
          await writeAll(
            handle,
            new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
            position,
          );
          position += values.byteLength;
        }
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function writeAll(handle: Awaited<ReturnType<typeof open>>, bytes: Uint8Array, position: number) {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch {
    return null;
  }
}

/** A process killed while converting leaves gigabytes behind; its number in the name tells that it is gone. */
async function removeAbandoned(cacheDir: string, file: string): Promise<void> {
  const pattern = /\.(\d+)-\d+\.partial$/;
  for (const name of await readdir(cacheDir)) {
    const pid = Number(pattern.exec(name)?.[1]);
    if (name.startsWith(file) && pid > 0 && !isAlive(pid)) await rm(join(cacheDir, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, but belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
