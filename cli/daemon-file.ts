import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SwarmError } from '../common/errors.ts';
import type { DaemonFile } from '../coordinator/api/types.ts';
import { cliError } from './error-codes.ts';
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

/** Whose folder it is, where a daemon has ever run in it: a folder belongs to one role. */
export function homeRole(home: string): Role | null {
  const roles = ['coordinator', 'node'] as const;
  return roles.find((role) => existsSync(join(home, `${role}.sqlite`))) ?? null;
}

export function notRunning(home: string, role: Role, cause?: unknown): SwarmError {
  const owner = homeRole(home);
  const message = `no ${role} is running in ${home}`;
  if (owner !== null && owner !== role) {
    const next = `name the folder of a ${role} with --home; "swarm status --home ${home}" tells of the ${owner}`;
    return cliError(
      'DAEMON_NOT_RUNNING',
      `${message}: it is the folder of a ${owner}`,
      { home, role, owner },
      { next, cause },
    );
  }
  const start = role === 'coordinator' ? 'swarm coordinator' : 'swarm node INVITE';
  const next = `start one with "${start} --home ${home}", or name its folder with --home`;
  return cliError('DAEMON_NOT_RUNNING', message, { home, role }, { next, cause });
}
