import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a daemon of each role keeps its state and answers from. */
export interface Homes {
  coordinator: string;
  node: string;
  /** Whether the user named the folder; the defaults differ by role, a named one is used as it is. */
  named: boolean;
}

/**
 * `--home`, else SWARM_HOME, else one folder per role below the data folder of the XDG base directory
 * specification ($XDG_DATA_HOME, ~/.local/share).
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

/** Converted weights, kept between runs: SWARM_CACHE, else lora-swarm in the XDG cache folder. May be deleted. */
export function resolveCache(environment: Environment, cwd: string): string {
  if (environment.SWARM_CACHE) return resolve(cwd, environment.SWARM_CACHE);
  const cache = environment.XDG_CACHE_HOME || join(environment.HOME || homedir(), '.cache');
  return join(cache, 'lora-swarm');
}
