import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Adapter, readPeftFolder } from '../../../lora/adapter/peft.ts';
import { emptyRow, IGNORED_LABEL, type Row } from '../../../lora/data/row.ts';
import { type BaseModel, openBase } from '../../../lora/models/base/base-model.ts';
import { FIXTURES } from './reference.ts';

/** Folders of all tiny models with reference values; every model family has at least one. */
export const FAMILY_FIXTURES: readonly string[] = [
  'llama-tiny-tied',
  'llama-tiny-untied',
  ...readdirSync(join(FIXTURES, 'families'))
    .sort()
    .map((name) => `families/${name}`),
];

export interface FamilyFixture {
  readonly model: BaseModel;
  readonly adapter: Adapter;
}

export async function openFamily(fixture: string): Promise<FamilyFixture> {
  const dir = join(FIXTURES, fixture);
  const model = await openBase(dir);
  return { model, adapter: await readPeftFolder(join(dir, 'adapter'), model) };
}

/**
 * Makes rows of one segment each. In the last `share` of each row, four of five tokens are supervised. The gaps are like
 * those between the answers of a conversation.
 */
export function completionRows(count: number, length: number, vocabulary: number, share: number): Row[] {
  return Array.from({ length: count }, (_, row) => {
    const { ids, labels, segments } = emptyRow(length);
    for (let t = 0; t < length; t++) {
      const token = (7919 * (row * length + t) + 13) % vocabulary;
      const supervised = t >= (1 - share) * length && t % 5 !== 4;
      ids[t] = token;
      labels[t] = supervised ? (token * 31 + 7) % vocabulary : IGNORED_LABEL;
    }
    segments.fill(1);
    return { ids, labels, segments };
  });
}

/** Returns the largest difference, relative to the largest expected value. */
export function relativeDifference(found: Float32Array, expected: Float32Array): number {
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
  return found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0) / scale;
}
