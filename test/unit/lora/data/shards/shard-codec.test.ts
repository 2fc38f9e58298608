import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSwarmError } from '../../../../../common/errors.ts';
import { IGNORED_LABEL, type Row } from '../../../../../lora/data/row.ts';
import { decodeRows, encodeShards, SHARD_BYTES } from '../../../../../lora/data/shards/shard-codec.ts';
import { DATA_SHARD_BYTES } from '../../../../../protocol/limits.ts';
import { packSequences } from '../../../../../scripts/pretrain/pack-documents.ts';
import { withCode } from '../../../../utils/source/codes.ts';

function rowsOf(vocabulary: number) {
  return fc
    .array(fc.array(fc.integer({ min: 0, max: vocabulary - 1 }), { maxLength: 60 }), { maxLength: 20 })
    .map((texts) => [...packSequences(texts, { sequenceLength: 16 })]);
}

const rows = (count: number, length: number, id = 7): Row[] =>
  Array.from({ length: count }, () => ({
    ids: new Uint32Array(length).fill(id),
    segments: new Uint16Array(length).fill(1),
    labels: new Int32Array(length).fill(id),
  }));

describe('encoded rows', () => {
  it('decode to the same rows, for any vocabulary', () => {
    for (const vocabulary of [300, 65_535, 65_536, 200_000]) {
      fc.assert(
        fc.property(rowsOf(vocabulary), (packed) => {
          expect(encodeShards(packed).flatMap(decodeRows)).toEqual(packed);
        }),
        { numRuns: 30 },
      );
    }
  });

  it('are cut into shards of at most one blob range, with equal numbers of rows except in the last', () => {
    const shards = encodeShards(rows(2000, 128));
    expect(shards.length).toBeGreaterThan(1);
    for (const shard of shards) expect(shard.length).toBeLessThanOrEqual(SHARD_BYTES);
    const counts = shards.map((shard) => decodeRows(shard).length);
    expect(new Set(counts.slice(0, -1)).size).toBe(1);
    expect(counts.reduce((a, b) => a + b)).toBe(2000);
  });

  it('put a row larger than a shard into a shard of its own', () => {
    const shards = encodeShards(rows(2, 131_072, 100_000));
    expect(shards).toHaveLength(2);
    for (const shard of shards) expect(shard.length).toBeLessThanOrEqual(DATA_SHARD_BYTES);
    expect(decodeRows(shards[1]!)[0]!.ids[5]).toBe(100_000);
  });

  it('are equal bytes for equal rows', () => {
    expect(encodeShards(rows(3, 16))).toEqual(encodeShards(rows(3, 16)));
  });

  it('are refused if rows are not canonical', () => {
    const [row] = rows(1, 16) as [Row];
    const changed = (change: (row: Row) => void) => {
      const copy = { ids: row.ids.slice(), segments: row.segments.slice(), labels: row.labels.slice() };
      change(copy);
      return [copy];
    };
    const bad = [
      changed(({ segments }) => segments.fill(2)),
      changed(({ segments }) => segments.set([1, 3], 4)),
      changed(({ segments }) => segments.fill(0, 3, 5)),
      changed(({ segments }) => segments.fill(0, 8)),
      changed(({ ids }) => ids.fill(2 ** 31, 3, 4)),
      changed(({ labels }) => labels.fill(-5, 3, 4)),
      [row, ...rows(1, 8)],
    ];
    for (const [i, list] of bad.entries()) {
      expect(() => encodeShards(list), `case ${i}`).toThrow(withCode('PACKED_ROW'));
    }
  });
});

describe('shards from untrusted peers', () => {
  const shard = encodeShards(rows(4, 16))[0]!;
  const refused = withCode('PACKED_INVALID');

  it('are refused with the typed error if they are random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(() => decodeRows(bytes)).toThrow(refused);
      }),
    );
  });

  it('are decoded or refused with the typed error if a byte is changed or the end is missing', () => {
    fc.assert(
      fc.property(fc.nat(shard.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const bytes = shard.slice();
        bytes[at] = bytes[at]! ^ by;
        try {
          for (const { labels } of decodeRows(bytes)) {
            expect(labels.every((label) => label >= 0 || label === IGNORED_LABEL)).toBe(true);
          }
        } catch (error) {
          expect(isSwarmError(error, 'PACKED_INVALID')).toBe(true);
        }
        expect(() => decodeRows(shard.subarray(0, at))).toThrow(refused);
      }),
    );
  });

  it('are refused if they are larger than the limit', () => {
    expect(() => decodeRows(new Uint8Array(DATA_SHARD_BYTES + 1))).toThrow(refused);
  });
});
