import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../../common/time/system-clock.ts';
import {
  checkPayload,
  INLINE_VALUES,
  inThread,
  loadUpdate,
  merge,
} from '../../../../coordinator/merge/arithmetic.ts';
import { decodeAdapter, encodeAdapter } from '../../../../lora/adapter/codec.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';
import {
  applyDelta,
  decodeUpdate,
  ErrorFeedback,
  encodeUpdate,
  toTensors,
} from '../../../../lora/update/index.ts';
import { sha256 } from '../../../../protocol/cbor.ts';
import { FileBlobStore } from '../../../../storage/blob-store.ts';
import {
  type MergeInput,
  type MergeSource,
  mergedValues,
  mergeUpdates,
  OUTLIER_FACTOR,
} from '../../../../verify/merge/merge-updates.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';
import { randomValues } from '../../../utils/swarm/updates.ts';

const BASE = 'ba'.repeat(32);

function loraLayout(width: number): AdapterLayout {
  const module = 'base_model.model.model.layers.0.mlp.up_proj';
  return [
    { name: `${module}.lora_A.weight`, shape: [4, width], group: 'A' },
    { name: `${module}.lora_B.weight`, shape: [width, 4], group: 'B' },
  ];
}

/** Blobs by digest, and the input of a merge of `count` updates of one round. */
class Bench {
  readonly blobs = new Map<string, Uint8Array>();
  readonly layout: AdapterLayout;
  readonly parent: Float32Array[];
  readonly input: MergeInput;

  constructor({ count = 4, width = 96, scale = (_peer: number): number => 1 } = {}) {
    this.layout = loraLayout(width);
    this.parent = this.tensors(999);
    const encoded = encodeAdapter(this.layout, this.parent, BASE);
    const sources = Array.from({ length: count }, (_, i) => this.source(i + 1, 5, scale(i)));
    this.input = {
      layout: this.layout,
      baseDigest: BASE,
      round: 5,
      sources: sources.sort((a, b) => (a.peer < b.peer ? -1 : 1)),
      rate: 1,
      denominatorFloor: 0.25,
      adapter: { digest: this.put(encoded), size: encoded.byteLength },
      residual: null,
    };
  }

  put(bytes: Uint8Array): string {
    const digest = sha256(bytes);
    this.blobs.set(digest, bytes);
    return digest;
  }

  tensors(seed: number, scale = 1): Float32Array[] {
    return this.layout.map(({ shape }, i) =>
      randomValues(shape[0] * shape[1], 'normal', seed + i).map((value) => scale * value),
    );
  }

  source(number: number, round: number, scale = 1): MergeSource {
    const { bytes } = encodeUpdate(this.layout, this.tensors(100 * number, scale), 'balanced');
    const { peerId } = signerOf(number);
    const tokens = 1000 + number;
    const common = { preset: 'balanced', size: bytes.byteLength, tokens, maxTokens: tokens } as const;
    const trust = { belief: 1, person: peerId, isNewcomer: false };
    return { peer: peerId, round, digest: this.put(bytes), ...common, ...trust };
  }

  merge(input: Partial<MergeInput> = {}) {
    return mergeUpdates({ ...this.input, ...input }, async (digest) => this.blobs.get(digest)!);
  }
}

describe('mergeUpdates', () => {
  test('multiplies weights by the belief, and without belief an update changes nothing', async () => {
    const bench = new Bench({ count: 4 });
    const { sources } = bench.input;
    const doubted = sources.map((source, i) => ({ ...source, belief: [1, 0.5, 0, 0.25][i]! }));
    const { contributors, adapter } = await bench.merge({ sources: doubted });
    const weights = contributors.map(({ weight, tokens }) => weight / tokens);
    expect(weights).toEqual([1, 0.5, 0, 0.25]);
    const without = await bench.merge({ sources: doubted.filter(({ belief }) => belief > 0) });
    expect(sha256(without.adapter)).toBe(sha256(adapter));
  });

  test('gives the same bits every time, and from the decoded delta', async () => {
    const bench = new Bench();
    const [once, again] = [await bench.merge(), await bench.merge()];
    expect(sha256(once.adapter)).toBe(sha256(again.adapter));
    expect(sha256(once.residual)).toBe(sha256(again.residual));
    const stepped = applyDelta(bench.layout, bench.parent, once.delta);
    expect(sha256(encodeAdapter(bench.layout, stepped, BASE))).toBe(sha256(once.adapter));
  });

  test('can be recomputed from the contributors that a checkpoint names', async () => {
    const bench = new Bench({ count: 5, scale: (peer) => (peer === 2 ? 1000 : 1) });
    const merged = await bench.merge();
    expect(merged.outliers).toHaveLength(1);
    const named = merged.contributors.map(
      ({ peer }) => bench.input.sources.find((source) => source.peer === peer)!,
    );
    const recomputed = await bench.merge({ sources: named });
    expect(sha256(recomputed.adapter)).toBe(sha256(merged.adapter));
    expect(recomputed.contributors).toEqual(merged.contributors);
  });

  test('can be recomputed from the weights that a checkpoint signs, without knowing persons and beliefs', async () => {
    const bench = new Bench({ count: 6, scale: (peer) => 1 + peer / 3 });
    const [a, b, c, d, e, f] = bench.input.sources as [MergeSource, ...MergeSource[]] & { length: 6 };
    const sources = [
      { ...a, belief: 0.4 },
      { ...b!, person: 'invite:1' },
      { ...c!, person: 'invite:1' },
      { ...d!, person: 'invite:1' },
      { ...e!, isNewcomer: true, belief: 0.25 },
      { ...f!, isNewcomer: true, belief: 0.5 },
    ];
    const merged = await bench.merge({ sources });
    const weights = merged.contributors.map(({ weight }) => weight);
    const recomputed = await bench.merge({ weights });
    expect(sha256(recomputed.adapter)).toBe(sha256(merged.adapter));
    expect(recomputed.contributors).toEqual(merged.contributors);
  });

  test('a crowd of newcomers with tiny updates clips no update and makes none an outlier', async () => {
    const bench = new Bench({ count: 9, scale: (peer) => (peer < 3 ? 1 : 1e-3) });
    const isBig = (peer: string): boolean => [1, 2, 3].some((number) => signerOf(number).peerId === peer);
    const sources = bench.input.sources.map((source) =>
      isBig(source.peer) ? source : { ...source, belief: 0.25, isNewcomer: true },
    );
    const { outliers, contributors, adapter } = await bench.merge({ sources });
    expect(outliers).toEqual([]);
    expect(contributors).toHaveLength(9);
    const alone = await bench.merge({ sources: sources.filter(({ peer }) => isBig(peer)) });
    const moved = (bytes: Uint8Array): number => {
      const tensors = decodeAdapter(bytes, bench.layout);
      return Math.hypot(
        ...tensors.flatMap((tensor, t) => [...tensor].map((value, i) => value - bench.parent[t]![i]!)),
      );
    };
    expect(moved(adapter)).toBeGreaterThan(0.7 * moved(alone.adapter));
  });

  test('loses nothing: published deltas and residual add up to all merged deltas', async () => {
    const bench = new Bench();
    const options = { layout: bench.layout, decay: 1 };
    const first = await bench.merge();
    const second = await bench.merge({ residual: bench.put(first.residual) });
    const sent = [first, second].map(({ delta }) =>
      toTensors(bench.layout, decodeUpdate(delta, bench.layout, 'dense')),
    );
    const { residual } = ErrorFeedback.decode(second.residual, options);
    const onlyFirst = ErrorFeedback.decode(first.residual, options).residual;
    for (const [t, values] of residual.entries()) {
      for (let i = 0; i < values.length; i += 17) {
        const merged = sent[0]![t]![i]! + onlyFirst[t]![i]!;
        expect(sent[0]![t]![i]! + sent[1]![t]![i]! + values[i]!).toBeCloseTo(2 * merged, 6);
      }
    }
  });

  test('leaves out an update many times larger than the others, and names its author', async () => {
    const bench = new Bench({ count: 4, scale: (peer) => (peer === 0 ? 1000 : 1) });
    const { outliers, contributors } = await bench.merge();
    expect(outliers.map(({ peer }) => peer)).toEqual([signerOf(1).peerId]);
    expect(contributors).toHaveLength(3);
  });

  test('clips an update that is large but not an outlier', async () => {
    const bench = new Bench({ count: 4, scale: (peer) => (peer === 0 ? OUTLIER_FACTOR / 2 : 1) });
    const honest = new Bench({ count: 4 });
    const [clipped, plain] = [await bench.merge(), await honest.merge()];
    expect(clipped.outliers).toEqual([]);
    const moved = (adapter: Uint8Array): number => {
      const tensors = decodeAdapter(adapter, bench.layout);
      return Math.hypot(
        ...tensors.flatMap((tensor, t) => [...tensor].map((value, i) => value - bench.parent[t]![i]!)),
      );
    };
    expect(moved(clipped.adapter)).toBeLessThan(1.2 * moved(plain.adapter));
  });

  test('weighs late updates less, and merges a late and a current update of one node', async () => {
    const bench = new Bench({ count: 2 });
    const late = bench.source(1, 3);
    const sources = [...bench.input.sources, late].sort((a, b) =>
      a.peer === b.peer ? a.round - b.round : a.peer < b.peer ? -1 : 1,
    );
    const { contributors } = await bench.merge({ sources });
    const of = (round: number) => contributors.find((c) => c.peer === late.peer && c.round === round)!;
    expect(of(3).weight).toBeCloseTo(of(5).weight / Math.sqrt(3), 3);
  });

  test('measures the drift of two or more updates', async () => {
    const bench = new Bench({ count: 3 });
    expect((await bench.merge()).drift).toBeGreaterThan(0);
    expect((await bench.merge({ sources: bench.input.sources.slice(0, 1) })).drift).toBeNull();
  });
});

describe('the worker thread', () => {
  test('gives the same bits as the calling thread', async () => {
    const home = await temporaryFolder();
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const bench = new Bench({ count: 3, width: 2 ** 15 });
    expect(mergedValues(bench.layout, 3)).toBeGreaterThan(INLINE_VALUES);
    for (const bytes of bench.blobs.values()) await blobs.put(bytes);
    const { signal } = new AbortController();
    const merged = await merge(bench.input, { blobs, signal });
    expect(sha256(merged.adapter)).toBe(sha256((await bench.merge()).adapter));
  });

  test('decodes an update as the calling thread does', async () => {
    const home = await temporaryFolder();
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const bench = new Bench({ count: 1, width: 2 ** 17 });
    const { layout } = bench;
    expect(mergedValues(layout, 0)).toBeGreaterThan(INLINE_VALUES);
    for (const bytes of bench.blobs.values()) await blobs.put(bytes);
    const source = bench.input.sources[0]!;
    const { signal } = new AbortController();
    const decoded = decodeUpdate(bench.blobs.get(source.digest)!, layout, source.preset);
    expect(await loadUpdate(source, { layout, blobs, signal })).toEqual(decoded);
  });

  test("passes on the decoder's error, and aborts", async () => {
    const layout = loraLayout(2 ** 20);
    const task = { layout, preset: 'tiny' } as const;
    const { signal } = new AbortController();
    const damaged = checkPayload(new Uint8Array(9), task, { signal });
    await expect(damaged).rejects.toMatchObject({ code: 'UPDATE_SIZE' });
    const aborted = AbortSignal.abort();
    await expect(checkPayload(new Uint8Array(9), task, { signal: aborted })).rejects.toBe(aborted.reason);
  });

  test('refuses a damaged blob, and names a missing one', async () => {
    const home = await temporaryFolder();
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const bench = new Bench({ count: 2 });
    const paths: Record<string, string> = {};
    for (const [digest, bytes] of bench.blobs) {
      await blobs.put(bytes);
      paths[digest] = blobs.path(digest);
    }
    paths[bench.input.sources[0]!.digest] = paths[bench.input.sources[1]!.digest]!;
    await expect(
      inThread('merge', { input: bench.input, paths }, new AbortController().signal),
    ).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    const { digest } = bench.input.sources[0]!;
    paths[digest] = `${home}/nowhere`;
    await expect(
      inThread('merge', { input: bench.input, paths }, new AbortController().signal),
    ).rejects.toMatchObject({
      code: 'BLOB_MISSING',
      values: { digest },
    });
  });
});
