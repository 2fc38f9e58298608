import { basename } from 'node:path';
import { type DescribeOptions, describeBase } from '../models/base/base-identity.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { hubOrigin, isCommit } from '../models/hub/reference.ts';
import { adapterError } from './errors.ts';
import { adapterLayout } from './layout.ts';
import type { Adapter } from './peft.ts';
import { nextBase } from './peft-config.ts';

/**
 * Checks that an adapter belongs to a base. An adapter written by this program holds the digest of its base. For any
 * other adapter, this function can check only the shapes; {@link baseWarning} compares the names of the two bases.
 * Reads the whole base unless its digest is cached.
 *
 * @throws SwarmError ADAPTER_BASE if the adapter was trained on another base, or its tensors do not fit this
 *   one
 */
export async function checkBase(
  model: BaseModel,
  adapter: Pick<Adapter, 'lora' | 'layout' | 'baseDigest' | 'baseModelName' | 'revision'>,
  options: DescribeOptions = {},
): Promise<void> {
  const expected = adapterLayout(model, adapter.lora);
  if (JSON.stringify(expected) !== JSON.stringify(adapter.layout))
    throw adapterError('ADAPTER_BASE', `the adapter's tensors do not fit the base in ${model.dir}`, {
      dir: model.dir,
    });
  if (adapter.baseDigest === null) return;
  const { digest } = await describeBase(model.dir, options);
  if (digest !== adapter.baseDigest)
    throw adapterError(
      'ADAPTER_BASE',
      `the adapter was trained on a base with the digest ${adapter.baseDigest}, but the base in ${model.dir} has the digest ${digest}`,
      { expected: adapter.baseDigest, found: digest },
      { next: nextBase(adapter) },
    );
}

/**
 * Compares the base that an adapter names with the base in `dir`, by name and commit. If the adapter has no digest of
 * its base, only this comparison can show that it was made for another base.
 * @returns a warning if the names or commits differ, else null
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
  // Revisions are compared only if the adapter names a commit, because a branch may have moved since the adapter was
  // written.
  const sameCommit = origin === null || !isCommit(revision ?? '') || revision === origin.revision;
  if (sameName && sameCommit) return null;
  const made = `${baseModelName}${revision === null ? '' : `@${revision}`}`;
  const given = origin === null ? dir : `${origin.name}@${origin.revision}`;
  return `the adapter was made for ${made}, but the base is ${given}; the adapter has no digest of its base, so only the names can be compared`;
}
