import { resolve } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import { resolveRegistry } from '../../common/files/user-folders.ts';
import type { Registry } from '../../index.ts';
import { adapterNameSchema } from '../../protocol/ids.ts';
import type { Context } from '../context.ts';

export interface RegistryFlags {
  registry?: string;
  json?: boolean;
}

/** Help of arguments that name a version. */
export const VERSION_HELP =
  'version of an adapter: NAME (its latest version), NAME:TAG, NAME:vN or NAME@DIGEST';

export const registryOption = (): Option =>
  new Option(
    '--registry <dir>',
    'folder of the registry (environment variable: SWARM_REGISTRY; default: $SWARM_HOME/registry if SWARM_HOME is set, else ~/.local/share/lora-swarm/registry)',
  );

/** Parses the name of an adapter. */
export function adapterName(text: string): string {
  const { error } = adapterNameSchema.safeParse(text);
  if (error) throw new InvalidArgumentError(`The name ${error.issues[0]!.message}.`);
  return text;
}

/** Returns the folder of the registry that the flags or the environment name. */
export function registryFolder(
  { environment, cwd }: Pick<Context, 'environment' | 'cwd'>,
  { registry }: Pick<RegistryFlags, 'registry'> = {},
): string {
  return registry === undefined ? resolveRegistry(environment, cwd) : resolve(cwd, registry);
}

/** Opens the registry, runs `work` with it, and closes it. */
export async function withRegistry<T>(
  context: Pick<Context, 'environment' | 'cwd' | 'clock'>,
  flags: Pick<RegistryFlags, 'registry'>,
  work: (registry: Registry) => Promise<T> | T,
): Promise<T> {
  const { openRegistry } = await import('../../index.ts');
  const home = registryFolder(context, flags);
  const registry = await openRegistry({ home }, { clock: context.clock });
  try {
    return await work(registry);
  } finally {
    registry.close();
  }
}
