import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { decodeAdapter, encodeAdapter, maxAdapterBytes } from '../../../../lora/adapter/codec.ts';
import type { AdapterLayout } from '../../../../lora/adapter/layout.ts';
import { decodeHeader, MAX_HEADER_BYTES } from '../../../../lora/models/weights/safetensors.ts';
import { encodeSafetensors } from '../../../../lora/models/weights/safetensors-writer.ts';
import { rawSafetensors } from '../../../utils/models/safetensors.ts';
import { withCode } from '../../../utils/source/codes.ts';

const layout = [
  { name: 'base_model.model.a.lora_A.weight', shape: [2, 3], group: 'A' },
  { name: 'base_model.model.a.lora_B.weight', shape: [4, 2], group: 'B' },
] as const;
const tensors = layout.map(({ shape }, t) =>
  Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => (i - 3) / 8 + t),
);

test('decodes what it encoded; equal adapters give equal bytes', () => {
  const bytes = encodeAdapter(layout, tensors);
  expect(decodeAdapter(bytes, layout)).toEqual(tensors);
  expect(
    encodeAdapter(
      layout,
      tensors.map((values) => values.slice()),
    ),
  ).toEqual(bytes);
  expect(bytes.byteLength).toBeLessThanOrEqual(maxAdapterBytes(layout));
  expect(decodeHeader(bytes, 'x', MAX_HEADER_BYTES).metadata).toEqual({ format: 'pt' });
  const digest = 'ab'.repeat(32);
  const named = encodeAdapter(layout, tensors, digest);
  expect(decodeHeader(named, 'x', MAX_HEADER_BYTES).metadata).toEqual({ format: 'pt', base_digest: digest });
  expect(decodeAdapter(named, layout)).toEqual(tensors);
});

test('the result does not share memory with the input, at any offset', () => {
  const bytes = Buffer.concat([Buffer.alloc(1), encodeAdapter(layout, tensors)]).subarray(1);
  const decoded = decodeAdapter(bytes, layout);
  bytes.fill(0);
  expect(decoded).toEqual(tensors);
});

test.each(['F16', 'BF16'] as const)('widens %s adapters of other programs', (dtype) => {
  const bytes = encodeSafetensors(
    layout.map(({ name, shape }, i) => ({ name, shape, dtype, data: tensors[i]! })),
  );
  expect(decodeAdapter(bytes, layout)).toEqual(tensors);
});

test('decodes vectors and saved modules like matrices', () => {
  const whole: AdapterLayout = [
    ...layout,
    { name: 'base_model.model.a.lora_magnitude_vector', shape: [4], group: 'magnitude' },
    { name: 'base_model.model.norm.weight', shape: [3], group: 'saved' },
  ];
  const values = [...tensors, Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6, 7)];
  expect(decodeAdapter(encodeAdapter(whole, values), whole)).toEqual(values);
  // The codec refuses a vector with the right number of values in another shape, and an adapter that lacks the vectors
  // of the layout.
  const [magnitude] = whole.slice(2);
  const column = whole.with(2, { ...magnitude!, shape: [4, 1] });
  for (const [given, data] of [
    [column, values],
    [layout, tensors],
  ] as const)
    expect(() => decodeAdapter(encodeAdapter(given, data), whole)).toThrow(withCode('ADAPTER_TENSORS'));
  expect(() => decodeAdapter(encodeAdapter(whole, values), layout)).toThrow(withCode('ADAPTER_TENSORS'));
});

describe('refuses', () => {
  const entry = (name: string, shape: readonly number[], data: Float32Array) => ({
    name,
    shape,
    dtype: 'F32' as const,
    data,
  });
  const [a, b] = layout.map(({ name, shape }, i) => entry(name, shape, tensors[i]!));
  const broken = (value: number) => {
    const values = tensors[1]!.slice();
    values[5] = value;
    return { ...b!, data: values };
  };
  const cases: [string, Uint8Array, string][] = [
    ['an empty file', new Uint8Array(0), 'TENSORS_TRUNCATED'],
    ['an empty state dict', encodeSafetensors([]), 'ADAPTER_TENSORS'],
    ['a missing tensor', encodeSafetensors([a!]), 'ADAPTER_TENSORS'],
    ['an extra tensor', encodeSafetensors([a!, b!, entry('c', [1], new Float32Array(1))]), 'ADAPTER_TENSORS'],
    ['another name', encodeSafetensors([a!, { ...b!, name: 'c' }]), 'ADAPTER_TENSORS'],
    ['a transposed shape', encodeSafetensors([{ ...a!, shape: [3, 2] }, b!]), 'ADAPTER_TENSORS'],
    ['a flat shape', encodeSafetensors([{ ...a!, shape: [6] }, b!]), 'ADAPTER_TENSORS'],
    ['NaN', encodeSafetensors([a!, broken(Number.NaN)]), 'ADAPTER_NOT_FINITE'],
    ['infinity', encodeSafetensors([a!, broken(Number.NEGATIVE_INFINITY)]), 'ADAPTER_NOT_FINITE'],
    ['a file cut off', encodeAdapter(layout, tensors).subarray(0, -1), 'TENSORS_TRUNCATED'],
    [
      'bytes after the end',
      Buffer.concat([encodeAdapter(layout, tensors), Buffer.alloc(1)]),
      'TENSORS_ENTRY',
    ],
    [
      'integers',
      rawSafetensors(
        {
          [layout[0].name]: { dtype: 'I32', shape: [2, 3], data_offsets: [0, 24] },
          [layout[1].name]: { dtype: 'I32', shape: [4, 2], data_offsets: [24, 56] },
        },
        56,
      ),
      'TENSORS_DTYPE',
    ],
    [
      'a header above the limit for adapters',
      rawSafetensors(`{${' '.repeat(2 ** 20)}}`, 0),
      'TENSORS_HEADER',
    ],
  ];
  test.each(cases)('%s', (_, bytes, expected) => {
    expect(() => decodeAdapter(bytes, layout)).toThrow(withCode(expected));
  });
});

test('refuses a hostile header of maximum size', () => {
  const entries = Array.from({ length: 12_000 }, (_, i) => [
    `t${i}`,
    { dtype: 'F32', shape: [0], data_offsets: [0, 0] },
  ]);
  const bytes = rawSafetensors(Object.fromEntries(entries), 0);
  expect(() => decodeAdapter(bytes, layout)).toThrow(withCode('ADAPTER_TENSORS'));
});

test('any bytes decode or give a typed error', () => {
  const valid = encodeAdapter(layout, tensors);
  const attempt = (bytes: Uint8Array) => {
    try {
      const decoded = decodeAdapter(bytes, layout);
      expect(decoded.map((values) => values.length)).toEqual([6, 8]);
    } catch (error) {
      if (!isSwarmError(error)) throw error;
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), attempt));
  const edits = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(edits, fc.nat(valid.length), (changes, length) => {
      const bytes = valid.slice();
      for (const [at, value] of changes) bytes[at] = value;
      attempt(bytes);
      attempt(bytes.subarray(0, length));
    }),
    { numRuns: 500 },
  );
});

test('encoding refuses a wrong number of tensors or values', () => {
  expect(() => encodeAdapter(layout, [tensors[0]!])).toThrow(withCode('ADAPTER_TENSORS'));
  expect(() => encodeAdapter(layout, [tensors[1]!, tensors[0]!])).toThrow(withCode('TENSORS_ENTRY'));
});
