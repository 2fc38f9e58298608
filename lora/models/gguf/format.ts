/**
 * Constants of the GGUF format, version 3 (github.com/ggml-org/ggml, docs/gguf.md). A file holds metadata (keys with typed
 * values), the list of its tensors, and the tensors' data. All numbers are little-endian.
 */

/** The bytes "GGUF" at the start of a file, as a little-endian number. */
export const MAGIC = 0x46554747;
export const VERSION = 3;
/** Alignment of tensors in bytes, if the key `general.alignment` is missing. */
export const DEFAULT_ALIGNMENT = 32;
/** Maximum length of a tensor's name in bytes. llama.cpp's buffer has 64 bytes, and the last one is 0. */
export const MAX_NAME_BYTES = 63;

/** Numbers of the value types in metadata. */
export const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;
export type ValueType = keyof typeof VALUE_TYPES;

/** A tensor type: its number in files, and the size of its blocks. */
export interface TensorFormat {
  readonly id: number;
  /** Number of weights in a block. Rows consist of whole blocks. */
  readonly weights: number;
  /** Size of a block in bytes. */
  readonly bytes: number;
  /**
   * Value of `general.file_type`: ggml's number for a file in which most matrices have this type. Null if this program
   * does not write such files.
   */
  readonly fileType: number | null;
}

/** The tensor types that this program reads. It writes only F32, F16, BF16 and Q8_0. */
export const TENSOR_FORMATS = {
  F32: { id: 0, weights: 1, bytes: 4, fileType: 0 },
  F16: { id: 1, weights: 1, bytes: 2, fileType: 1 },
  Q4_0: { id: 2, weights: 32, bytes: 18, fileType: null },
  Q4_1: { id: 3, weights: 32, bytes: 20, fileType: null },
  Q5_0: { id: 6, weights: 32, bytes: 22, fileType: null },
  Q5_1: { id: 7, weights: 32, bytes: 24, fileType: null },
  Q8_0: { id: 8, weights: 32, bytes: 34, fileType: 7 },
  Q4_K: { id: 12, weights: 256, bytes: 144, fileType: null },
  Q5_K: { id: 13, weights: 256, bytes: 176, fileType: null },
  Q6_K: { id: 14, weights: 256, bytes: 210, fileType: null },
  BF16: { id: 30, weights: 1, bytes: 2, fileType: 32 },
} as const satisfies Readonly<Record<string, TensorFormat>>;
export type TensorType = keyof typeof TENSOR_FORMATS;

/** Names of tensor types that are refused, for messages. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** Returns the tensor type with this number; null for a type that this program cannot read. */
export function tensorTypeOf(id: number): TensorType | null {
  const names = Object.keys(TENSOR_FORMATS) as TensorType[];
  return names.find((name) => TENSOR_FORMATS[name].id === id) ?? null;
}

/** Returns the name of a tensor type that this program cannot read. */
export function otherTypeName(id: number): string {
  return OTHER_TYPES[id] ?? `type ${id}`;
}

/** Rounds a position in a file up to a multiple of the alignment. */
export function aligned(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

/** Element type of the matrices in an exported file. */
export type GgufType = 'f32' | 'f16' | 'bf16' | 'q8_0';
export const GGUF_TYPES: readonly GgufType[] = ['f32', 'f16', 'bf16', 'q8_0'];
