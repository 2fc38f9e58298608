import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Home of the daemon of each role. */
export interface Homes {
  coordinator: string;
  node: string;
  /** Whether the user named the home. A named home is the same for both roles; the defaults differ. */
  named: boolean;
}

/**
 * Returns the homes: `--home`, else SWARM_HOME, else one folder per role in the data folder of the XDG base directory
 * specification ($XDG_DATA_HOME, by default ~/.local/share).
 */
export function resolveHomes(flag: string | undefined, environment: Environment, cwd: string): Homes {
  const named = flag ?? environment.SWARM_HOME;
  if (named !== undefined && named !== '') {
    const home = resolve(cwd, named);
    return { coordinator: home, node: home, named: true };
  }
  const data = environment.XDG_DATA_HOME || join(environment.HOME || homedir(), '.local', 'share');
  const root = join(data, 'lora-swarm');
  return { coordinator: join(root, 'coordinator'), node: join(root, 'node'), named: false };
}

/** Returns the folder of converted weights: SWARM_CACHE, else lora-swarm in the XDG cache folder. Users may delete it. */
export function resolveCache(environment: Environment, cwd: string): string {
  if (environment.SWARM_CACHE) return resolve(cwd, environment.SWARM_CACHE);
  const cache = environment.XDG_CACHE_HOME || join(environment.HOME || homedir(), '.cache');
  return join(cache, 'lora-swarm');
}
