import { resolveRegistry } from '../common/files/user-folders.ts';
import type { Clock } from '../common/time/clock.ts';
import { systemClock } from '../common/time/system-clock.ts';
import type { Signer } from '../protocol/signing.ts';
import { Registry } from './registry.ts';

/** Folder of a registry. */
export interface OpenRegistryOptions {
  /** @default SWARM_REGISTRY, else SWARM_HOME/registry, else lora-swarm/registry in the user's data folder */
  readonly home?: string;
}

/** Dependencies of a registry. All have defaults. */
export interface OpenRegistryDeps {
  /** @default the machine's clock @internal */
  readonly clock?: Clock;
  /** Returns the key that signs versions. @default the key in the registry's folder, which is made on first use */
  readonly signer?: () => Promise<Signer>;
}

/**
 * Opens the registry of this user, or the one in `home`. Close the registry after use.
 * @throws SwarmError FOLDER_UNUSABLE, STORE_NEWER, STORE_CORRUPT, STORE_REFUSED
 */
export async function openRegistry(
  options: OpenRegistryOptions = {},
  deps: OpenRegistryDeps = {},
): Promise<Registry> {
  const home = options.home ?? resolveRegistry();
  const { clock = systemClock, signer = ownKey(home) } = deps;
  return Registry.open({ home }, { clock, signer });
}

/** Returns a function that reads the key in a folder on its first call. */
function ownKey(home: string): () => Promise<Signer> {
  let signer: Promise<Signer> | undefined;
  return () => {
    // Imports the module only here, because the import takes a noticeable time, and commands that only read need no
    // key.
    signer ??= import('../net/identity.ts').then(
      async ({ loadIdentity }) => (await loadIdentity(home)).signer,
    );
    return signer;
  };
}
