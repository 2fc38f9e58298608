import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DaemonFile } from '../coordinator/api-types.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Role } from './homes.ts';

/** How to reach a running daemon; null when none has written its file into this home. */
export async function readDaemonFile(home: string, role: Role): Promise<DaemonFile | null> {
  try {
    return JSON.parse(await readFile(join(home, `${role}.json`), 'utf8')) as DaemonFile;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** The token that the control API asks for; null when the home holds none. */
export async function readToken(home: string): Promise<string | null> {
  return readFile(join(home, 'api-token'), 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}

export function notRunning(home: string, role: Role, cause?: unknown): SwarmError {
  return new SwarmError(
    'DAEMON_NOT_RUNNING',
    `no ${role} is running in ${home}`,
    {
      home,
      role,
      next:
        role === 'coordinator'
          ? `start one with "swarm coordinator --home ${home}", or name its folder with --home`
          : `start one with "swarm node INVITE --home ${home}", or name its folder with --home`,
    },
    { cause },
  );
}
