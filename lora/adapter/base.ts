import { SwarmError } from '../../protocol/errors.ts';
import { describeBase } from '../models/base.ts';
import type { Model } from '../models/folder.ts';
import { adapterLayout } from './layout.ts';
import type { Adapter } from './peft.ts';

/**
 * Whether an adapter belongs to this very base: adapters written here name it by its digest, those of other makers
 * only fit or do not. Reads the whole base.
 *
 * @throws SwarmError ADAPTER_BASE it was trained on another base, or does not fit this one
 */
export async function checkBase(
  model: Model,
  adapter: Pick<Adapter, 'lora' | 'layout' | 'baseDigest'>,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const expected = adapterLayout(model, adapter.lora);
  if (JSON.stringify(expected) !== JSON.stringify(adapter.layout))
    throw new SwarmError('ADAPTER_BASE', `the adapter's tensors are not those of the model in ${model.dir}`, {
      dir: model.dir,
    });
  if (adapter.baseDigest === null) return;
  const { digest } = await describeBase(model.dir, options);
  if (digest !== adapter.baseDigest)
    throw new SwarmError(
      'ADAPTER_BASE',
      `the adapter was trained on the base ${adapter.baseDigest}, ${model.dir} is ${digest}; use the base it was trained on`,
      { expected: adapter.baseDigest, found: digest },
    );
}
