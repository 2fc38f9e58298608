import { basename } from 'node:path';
import { type DescribeOptions, describeBase } from '../models/base-identity.ts';
import type { BaseModel } from '../models/base-model.ts';
import { hubOrigin, isCommit } from '../models/hub/reference.ts';
import { adapterError } from './errors.ts';
import { adapterLayout } from './layout.ts';
import type { Adapter } from './peft.ts';

/**
 * Whether an adapter belongs to this very base: adapters written here name it by its digest, those of other makers
 * only fit or do not ({@link baseWarning}). Reads the whole base, where its digest is not remembered.
 *
 * @throws SwarmError ADAPTER_BASE it was trained on another base, or does not fit this one
 */
export async function checkBase(
  model: BaseModel,
  adapter: Pick<Adapter, 'lora' | 'layout' | 'baseDigest' | 'baseModelName' | 'revision'>,
  options: DescribeOptions = {},
): Promise<void> {
  const expected = adapterLayout(model, adapter.lora);
  if (JSON.stringify(expected) !== JSON.stringify(adapter.layout))
    throw adapterError('ADAPTER_BASE', `the adapter's tensors are not those of the model in ${model.dir}`, {
      dir: model.dir,
    });
  if (adapter.baseDigest === null) return;
  const { digest } = await describeBase(model.dir, options);
  if (digest !== adapter.baseDigest)
    throw adapterError(
      'ADAPTER_BASE',
      `the adapter was trained on the base ${adapter.baseDigest}, ${model.dir} is ${digest}`,
      { expected: adapter.baseDigest, found: digest },
      { next: nextBase(adapter) },
    );
}

/** Where its own base may be had. */
function nextBase({ baseModelName, revision }: Pick<Adapter, 'baseModelName' | 'revision'>): string {
  if (baseModelName === null) return 'use the base it was trained on';
  return `use the base it was trained on: it was called ${baseModelName}${revision === null ? '' : `@${revision}`}`;
}

/**
 * What speaks against an adapter without a digest belonging to this base: names are all there is to compare.
 * @returns a sentence, or null
 */
export function baseWarning(
  { dir }: Pick<BaseModel, 'dir'>,
  { baseDigest, baseModelName, revision }: Pick<Adapter, 'baseDigest' | 'baseModelName' | 'revision'>,
): string | null {
  if (baseDigest !== null || baseModelName === null) return null;
  const origin = hubOrigin(dir);
  const sameName =
    origin === null
      ? basename(dir) === basename(baseModelName)
      : origin.name === baseModelName || hubOrigin(baseModelName)?.name === origin.name;
  // Of a branch's name nobody knows what it stood for then.
  const sameCommit = origin === null || !isCommit(revision ?? '') || revision === origin.revision;
  if (sameName && sameCommit) return null;
  const made = `${baseModelName}${revision === null ? '' : `@${revision}`}`;
  const given = origin === null ? dir : `${origin.name}@${origin.revision}`;
  return `the adapter was made for ${made} and does not say which weights that had; the base is ${given}`;
}
