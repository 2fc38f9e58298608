import { mkdir, rename, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { RangeMap } from '../../storage/range-map.ts';

/**
 * Gives a store of blobs the files of a fetch that was interrupted when all ranges had arrived: a partial blob and its map.
 * @param whole path of the blob. The file becomes the partial blob
 * @param origin name of the group of holders that have sent the ranges; null for all holders
 * @returns the paths of the partial blob and of its map
 */
export async function interruptFetch(
  whole: string,
  origin: string | null,
): Promise<{ partial: string; map: string }> {
  const folder = join(dirname(whole), '..', 'partial');
  const partial = join(folder, origin === null ? basename(whole) : `${basename(whole)}.${origin}`);
  const { size } = await stat(whole);
  const ranges = Math.ceil(size / BLOB_RANGE_BYTES);
  const map = new RangeMap(`${partial}.map`, size, ranges);
  for (let range = 0; range < ranges; range++) map.add(range);
  await mkdir(folder, { recursive: true });
  await rename(whole, partial);
  await map.save();
  return { partial, map: `${partial}.map` };
}
