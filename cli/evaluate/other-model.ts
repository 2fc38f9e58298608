import type { ModelBundle } from '../../index.ts';
import { BASE_ALIAS } from '../../protocol/ids.ts';
import type { Context } from '../context.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';

/** Opens a model that --against names. */
export async function otherModel(
  context: Context,
  flags: ModelFlags,
  { against, bundle }: { against: string; bundle: ModelBundle },
): Promise<ModelBundle> {
  if (against === BASE_ALIAS) return { ...bundle, adapter: null };
  return openModelBundle(context, { ...flags, adapter: against });
}
