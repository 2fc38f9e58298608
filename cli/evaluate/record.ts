import { commonError } from '../../common/common-errors.ts';
import type { TaskResults } from '../../index.ts';
import { withRegistry } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';

/** Name under which the registry records measurements of this command. */
const SOURCE = 'lora-swarm evaluate';

/** Returns the reference of an adapter whose figures can be stored. @throws USAGE if the adapter is not a version */
export async function recordedVersion(adapter: string | undefined): Promise<string> {
  const { parseReference } = await import('../../registry/reference.ts');
  if (adapter !== undefined && parseReference(adapter) !== null) return adapter;
  throw commonError(
    'USAGE',
    '--record stores figures with a version of the registry, but --adapter names no version',
    { adapter },
    { next: 'name a version with --adapter, such as NAME or NAME:v3' },
  );
}

/**
 * Stores the figures of an adapter with its version in the registry, under names such as `questions.exact_match,none`.
 * @returns the label of the version, such as `moby:v3`
 */
export async function recordFigures(
  context: Context,
  reference: string,
  figures: TaskResults,
): Promise<string> {
  const { flatFigures } = await import('../../lora/evaluate/tasks/flat-figures.ts');
  return withRegistry(context, {}, (registry) => {
    const version = registry.resolve(reference);
    registry.measure(version, SOURCE, flatFigures(figures));
    return version.label;
  });
}
