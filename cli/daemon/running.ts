import { dirname } from 'node:path';
import { type Homes, resolveHomes } from '../../common/files/user-folders.ts';
import {
  type ApiClient,
  type CoordinatorStatus,
  connect,
  type NodeStatus,
  type SwarmError,
} from '../../index.ts';
import { homeRole, isDaemonAway, notRunning, type Role, readDaemonFile } from '../../storage/daemon-home.ts';
import { storageError } from '../../storage/errors.ts';
import type { Context } from '../context.ts';

/** A daemon that answers. */
export interface Daemon {
  /** Home folder of the daemon. */
  home: string;
  role: Role;
  api: ApiClient;
  answer: CoordinatorStatus | NodeStatus;
}

/**
 * Returns the daemons that answer in the named home, or in the default homes. A daemon that was killed leaves its daemon
 * file in the home, but does not answer.
 * @throws SwarmError DAEMON_NOT_RUNNING if none answers
 */
export async function runningDaemons(context: Context, home: string | undefined): Promise<Daemon[]> {
  const homes = resolveHomes(home, context.environment, context.cwd);
  const found: Daemon[] = [];
  for (const role of ['coordinator', 'node'] as const) {
    if ((await readDaemonFile(homes[role], role)) === null) continue;
    try {
      const api = await connect({ home: homes[role] }, { role, signal: context.signal });
      found.push({
        home: homes[role],
        role,
        api,
        answer: await api.status<CoordinatorStatus | NodeStatus>(),
      });
    } catch (error) {
      if (!isDaemonAway(error)) throw error;
    }
  }
  if (found.length === 0) throw noneRunning(homes);
  return found;
}

function noneRunning({ coordinator, node, named }: Homes): SwarmError {
  const where = named ? coordinator : dirname(coordinator);
  const owner = named ? homeRole(coordinator) : null;
  if (owner !== null) return notRunning(coordinator, owner);
  const flag = named ? ` --home ${coordinator}` : '';
  return storageError(
    'DAEMON_NOT_RUNNING',
    `neither a coordinator nor a node is running in ${where}`,
    { homes: named ? [coordinator] : [coordinator, node] },
    {
      next: `start a daemon: "lora-swarm coordinator${flag}" runs jobs, and "lora-swarm node -${flag}" joins a job; if a daemon runs in another home folder, name that folder with --home`,
    },
  );
}
