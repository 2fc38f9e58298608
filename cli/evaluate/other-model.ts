import type { ModelBundle } from '../../index.ts';
import type { Context } from '../context.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';

/** Value of --against that means the base without an adapter. */
export const BASE = 'base';

/** Opens a model that --against names. */
export async function otherModel(
  context: Context,
  flags: ModelFlags,
  { against, bundle }: { against: string; bundle: ModelBundle },
): Promise<ModelBundle> {
  if (against === BASE) return { ...bundle, adapter: null };
  return openModelBundle(context, { ...flags, adapter: against });
}
