import type { ModelBundle } from '../../index.ts';
import type { Context } from '../context.ts';
import { type ModelFlags, openModelBundle } from '../options/model.ts';

/** Value of --against that means the base without an adapter. */
export const BASE = 'base';

/** Opens the model that --against names; undefined without this option. */
export async function otherModel(
  context: Context,
  { against, ...flags }: ModelFlags & { against?: string },
  bundle: ModelBundle,
): Promise<ModelBundle | undefined> {
  if (against === undefined) return undefined;
  if (against === BASE) return { ...bundle, adapter: null };
  return openModelBundle(context, { ...flags, adapter: against });
}
