import { open, readFile } from 'node:fs/promises';
import type { BlockEntry, WeightEntry, WeightFile } from '../../../lora/engines/weights.ts';
import { blockLayout, type QuantisedBits } from '../../../lora/models/weights/quantise.ts';
import type { Blocks } from '../../../lora/models/weights/quantiser.ts';

/**
 * Returns the weights that codes and scales stand for, row by row. At 4 bits, a weight file has a second, transposed copy
 * of each matrix. This function reads either copy.
 */
export function dequantise({ codes, scales }: Blocks, columns: number, bits: QuantisedBits): Float32Array {
  const { side, blocks, bytes } = blockLayout(columns, bits);
  const rows = scales.length / blocks;
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const block = row * blocks + Math.floor(column / side);
      const place = column % side;
      const byte = codes[block * bytes + (bits === 4 ? place >> 1 : place)]!;
      const number = bits === 4 ? ((byte >> (4 * (place & 1))) & 15) - 8 : (byte << 24) >> 24;
      values[row * columns + column] = number * scales[block]!;
    }
  }
  return values;
}

/** Writes a float32 weight file to `path` with the dequantised values of a quantised weight file. */
export async function dequantisedFile(weights: WeightFile, path: string): Promise<WeightFile> {
  const bytes = await readFile(weights.path);
  const part = ({ offset, length }: WeightEntry) => Uint8Array.from(bytes.subarray(offset, offset + length));
  const entries = new Map<string, WeightEntry>();
  const file = await open(path, 'w');
  let offset = 0;
  const add = async (name: string, shape: readonly number[], data: Uint8Array) => {
    await file.write(data, 0, data.byteLength, offset);
    entries.set(name, { offset, length: data.byteLength, shape });
    offset += Math.ceil(data.byteLength / 4096) * 4096;
  };
  for (const [name, entry] of weights.entries) await add(name, entry.shape, part(entry));
  for (const [name, entry] of weights.quantised ?? []) {
    const dense = dequantise(blocksOf(entry.plain, part), entry.shape[1], entry.bits);
    await add(name, entry.shape, new Uint8Array(dense.buffer));
  }
  for (const [name, { shape, codes, scales }] of weights.tables ?? []) {
    const [numbers, factors] = [new Int8Array(part(codes).buffer), new Float32Array(part(scales).buffer)];
    const dense = Float32Array.from(numbers, (number, i) => number * factors[Math.floor(i / shape[1])]!);
    await add(name, shape, new Uint8Array(dense.buffer));
  }
  await file.close();
  return { path, entries };
}

function blocksOf({ codes, scales }: BlockEntry, part: (entry: WeightEntry) => Uint8Array) {
  return { codes: part(codes), scales: new Float32Array(part(scales).buffer) };
}

/** Returns names and shapes of the quantised matrices of a weight file. */
export function quantisedNames({
  quantised = new Map(),
  tables = new Map(),
}: WeightFile): [name: string, entry: { shape: readonly [number, number] }][] {
  return [...quantised, ...tables];
}
