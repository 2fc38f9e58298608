import { createHash } from 'node:crypto';
import type { Preset, SparseUpdate, TensorUpdate, UpdateLayout } from '../../../lora/update/index.ts';

/*
 * Second implementation of docs/update-format.md, written from that document, independent of lora/update. Bits are
 * characters. It encodes the content of an update, for which there is only one valid encoding.
 */

const KEPT: Record<Preset, number | null> = { tiny: 64, balanced: 256, quality: 512, dense: null };
const CODE: Record<Preset, number> = { tiny: 1, balanced: 2, quality: 3, dense: 4 };

const binary = (value: number, width: number) => (width === 0 ? '' : value.toString(2).padStart(width, '0'));

function scaleBits(scale: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, scale);
  return view.getUint16(0) - 80 * 128;
}

function chunkBits(length: number, kept: number, entries: { position: number; value: number }[]): string {
  if (entries.length === 0) return binary(0, 13);
  if (entries.length !== kept) throw new Error(`${entries.length} entries where ${kept} are kept`);
  const magnitudes = [...new Set(entries.map(({ value }) => Math.abs(value)))].sort((a, b) => b - a);
  const [upper = 0, lower] = magnitudes;
  const ratio = lower === undefined ? 0 : (128 * lower) / upper;
  const divisor = Math.max(1, Math.ceil((693 * length - 850 * kept) / (1000 * kept)));
  const longest = Math.ceil(Math.log2(divisor));
  const short = 2 ** longest - divisor;
  let bits = binary(scaleBits(upper), 13) + binary(ratio, 7);
  let next = 0;
  for (const { position, value } of entries) {
    const gap = position - next;
    next = position + 1;
    const remainder = gap % divisor;
    bits += `${'0'.repeat(Math.floor(gap / divisor))}1`;
    if (remainder >= short) bits += binary(remainder + short, longest);
    else if (longest > 1) bits += binary(remainder, longest - 1);
    bits += `${value < 0 ? 1 : 0}${Math.abs(value) === upper ? 1 : 0}`;
  }
  return bits;
}

function sparseBits(layout: UpdateLayout, tensors: readonly TensorUpdate[], fullKept: number): string {
  let bits = '';
  for (const [tensor, { shape }] of layout.entries()) {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    const { indices, values } = tensors[tensor]!;
    for (let start = 0; start < size; start += 4096) {
      const length = Math.min(4096, size - start);
      const kept = Math.max(1, Math.round((fullKept * length) / 4096));
      const entries = [...indices!.keys()]
        .map((entry) => ({ position: indices![entry]! - start, value: values[entry]! }))
        .filter(({ position }) => position >= 0 && position < length);
      bits += chunkBits(length, kept, entries);
    }
  }
  return bits;
}

function denseBytes(tensors: readonly TensorUpdate[]): number[] {
  const bytes: number[] = [];
  for (const { values } of tensors) {
    for (let start = 0; start < values.length; start += 256) {
      const block = values.subarray(start, start + 256);
      const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const scale = largest === 0 ? 0 : scaleBits(largest / 7);
      bytes.push(scale % 256, Math.floor(scale / 256));
      if (scale === 0) continue;
      const nibbles = [...block].map((value) => value / (largest / 7) + 7);
      for (let at = 0; at < nibbles.length; at += 2) bytes.push(nibbles[at]! + 16 * (nibbles[at + 1] ?? 0));
    }
  }
  return bytes;
}

export function referenceEncoding(layout: UpdateLayout, { preset, tensors }: SparseUpdate): Uint8Array {
  const kept = KEPT[preset];
  let payload: number[];
  if (kept === null) {
    payload = denseBytes(tensors);
  } else {
    const bits = sparseBits(layout, tensors, kept);
    payload = (bits.match(/.{1,8}/g) ?? []).map((byte) => Number.parseInt(byte.padEnd(8, '0'), 2));
  }
  const names = JSON.stringify(layout.map(({ name, shape }) => [name, shape]));
  const digest = createHash('sha256').update(names).digest().subarray(0, 8);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(17 + payload.length);
  return Uint8Array.from([...Buffer.from('LSU'), 1, ...digest, ...length, CODE[preset], ...payload]);
}
