import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../../lora/adapter/peft.ts';
import { type BaseModel, openBase } from '../../../lora/models/base/base-model.ts';
import { readHeader, readTensor } from '../../../lora/models/weights/safetensors.ts';

export const FIXTURES = join(import.meta.dirname, '../../fixtures');

export interface ReferenceRow {
  ids: number[];
  segments: number[];
  /** The token to predict at each position, which is the token after it. −100 if none is predicted. */
  labels: number[];
}

/** Settings of the training steps that a script of scripts/reference took with PyTorch. */
export interface ReferenceSettings {
  readonly lr: number;
  readonly betas: [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  readonly clipNorm: number;
  readonly batch: number;
  readonly length: number;
}

export type ReferenceCase = 'plain' | 'packed';

/** Contents of the file that scripts/reference/make_llama_tiny.py stored beside a tiny model. */
export interface Reference {
  dir: string;
  model: BaseModel;
  adapter: Adapter;
  rows: Record<ReferenceCase, ReferenceRow[]>;
  losses: Record<ReferenceCase, number[]>;
  settings: ReferenceSettings & { readonly steps: number };
  tensor(name: string): Promise<Float32Array>;
}

export async function openReference(variant: 'tied' | 'untied'): Promise<Reference> {
  const dir = join(FIXTURES, `llama-tiny-${variant}`);
  const model = await openBase(dir);
  const adapter = await readPeftFolder(join(dir, 'adapter'), model);
  const path = join(dir, 'reference.safetensors');
  const { entries } = await readHeader(path);
  const json = JSON.parse(await readFile(join(dir, 'reference.json'), 'utf8')) as Pick<
    Reference,
    'rows' | 'losses' | 'settings'
  >;
  return { dir, model, adapter, ...json, tensor: (name) => readTensor(path, entries.get(name)!) };
}

/** Largest |a − b|; infinite when the lengths differ. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  // Math.max returns NaN if one value is NaN, and NaN is not below any tolerance.
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
}
