/**
 * Paths of the user's folders. They come from environment variables of this program, or otherwise from the XDG base
 * directory specification.
 */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Environment, processEnvironment } from '../environment.ts';

/** The home folders of this program. */
export interface Homes {
  coordinator: string;
  node: string;
  /** Folder of the key with which this machine downloads checkpoints. */
  reader: string;
  /**
   * Whether the user named the home folder. If so, the coordinator and the node use the same home. By
   * default, the coordinator and the node have different homes.
   */
  named: boolean;
}

/**
 * Returns the home folders of the node and of the coordinator: `home`, else SWARM_HOME, else one folder for each role
 * in the data folder of the XDG base directory specification ($XDG_DATA_HOME, by default ~/.local/share).
 */
export function resolveHomes(
  home?: string,
  environment: Environment = processEnvironment(),
  cwd: string = process.cwd(),
): Homes {
  const named = home ?? environment.SWARM_HOME;
  if (named !== undefined && named !== '') {
    const path = resolve(cwd, named);
    return { coordinator: path, node: path, reader: join(path, 'reader'), named: true };
  }
  const root = dataFolder(environment);
  const [coordinator, node, reader] = ['coordinator', 'node', 'reader'].map((name) => join(root, name));
  return { coordinator: coordinator!, node: node!, reader: reader!, named: false };
}

/**
 * Returns the folder of converted weights: SWARM_CACHE, else `lora-swarm` in the XDG cache folder ($XDG_CACHE_HOME, by
 * default ~/.cache). Users may delete this folder.
 */
export function resolveCache(
  environment: Environment = processEnvironment(),
  cwd: string = process.cwd(),
): string {
  if (environment.SWARM_CACHE) return resolve(cwd, environment.SWARM_CACHE);
  const cache = environment.XDG_CACHE_HOME || join(environment.HOME || homedir(), '.cache');
  return join(cache, 'lora-swarm');
}

/**
 * Returns the folder of the registry of adapters. It is SWARM_REGISTRY, else the folder `registry` in SWARM_HOME, else
 * the folder `lora-swarm/registry` in the data folder of the XDG base directory specification.
 */
export function resolveRegistry(
  environment: Environment = processEnvironment(),
  cwd: string = process.cwd(),
): string {
  if (environment.SWARM_REGISTRY) return resolve(cwd, environment.SWARM_REGISTRY);
  if (environment.SWARM_HOME) return resolve(cwd, environment.SWARM_HOME, 'registry');
  return join(dataFolder(environment), 'registry');
}

function dataFolder(environment: Environment): string {
  const data = environment.XDG_DATA_HOME || join(environment.HOME || homedir(), '.local', 'share');
  return join(data, 'lora-swarm');
}
