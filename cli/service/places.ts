import { resolve } from 'node:path';
import type { Environment } from '../../common/environment.ts';

/** Variables that decide where the files of a daemon lie. Tokens and invites are not among them. */
const PLACES = [
  'SWARM_HOME',
  'SWARM_CACHE',
  'SWARM_REGISTRY',
  'XDG_CACHE_HOME',
  'XDG_DATA_HOME',
  'HF_HOME',
  'HF_HUB_CACHE',
  'HUGGINGFACE_HUB_CACHE',
  'HF_TOKEN_PATH',
];

/**
 * Returns the variables of a shell that decide where the files of a daemon lie. A service starts in another folder, so
 * relative paths become absolute. The hub's variables may begin with "~", which the daemon replaces itself.
 */
export function placesOf(environment: Environment, cwd: string): Record<string, string> {
  return Object.fromEntries(
    PLACES.flatMap((name) => {
      const value = environment[name];
      if (!value) return [];
      return [[name, /^(HF|HUGGINGFACE)_/.test(name) && value.startsWith('~') ? value : resolve(cwd, value)]];
    }),
  );
}
