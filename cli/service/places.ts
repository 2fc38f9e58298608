import { resolve } from 'node:path';
import type { Environment } from '../../common/environment.ts';

/** Environment variables that decide where the files of a daemon are. None of them contains a token or an invite. */
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
 * Returns the environment variables of a shell that decide where the files of a daemon are. Makes relative paths absolute,
 * because a service starts in another folder. Keeps "~" in variables of the Hugging Face hub, because the daemon replaces
 * "~".
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
