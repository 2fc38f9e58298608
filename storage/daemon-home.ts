/** The home of a daemon: which role owns it, and how to reach the daemon that runs in it. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import { writeDurably } from '../common/files/durable.ts';
import { nullIfMissing } from '../common/files/file-system.ts';
import { makeFolder } from '../common/files/folders.ts';
import { storageError } from './errors.ts';

export type Role = 'coordinator' | 'node';

/** The description of a running daemon, which the daemon writes to its home. */
export interface DaemonFile {
  role: Role;
  pid: number;
  /** Root URL of the daemon's HTTP API on 127.0.0.1. */
  url: string;
  peerId: string;
  addresses: readonly string[];
  /** Folder of the registry whose shared versions the daemon serves; null if it serves none. */
  sharedRegistry: string | null;
  /** Time at which the daemon started, in milliseconds since 1970. */
  startedAt: number;
}

/**
 * Creates the home of a daemon, readable by its owner only. A home belongs to one role, because a node and a
 * coordinator with the same key would look like one peer to other peers.
 * @throws SwarmError HOME_ROLE, FOLDER_UNUSABLE
 */
export async function claimHome(home: string, role: Role): Promise<void> {
  const owner = homeRole(home);
  if (owner !== null && owner !== role) {
    throw storageError(
      'HOME_ROLE',
      `${home} is the home of a ${owner}`,
      { home },
      { next: `give this ${role} its own folder with --home` },
    );
  }
  await makeFolder(home, { mode: 0o700 });
}

/** Returns the role whose database is in this home; null if no daemon has run there. */
export function homeRole(home: string): Role | null {
  const roles = ['coordinator', 'node'] as const;
  return roles.find((role) => existsSync(join(home, `${role}.sqlite`))) ?? null;
}

/** Writes the description of a running daemon to its home. @returns the path, which the daemon deletes when it stops */
export async function writeDaemonFile(home: string, daemon: DaemonFile): Promise<string> {
  const path = daemonFile(home, daemon.role);
  await writeDurably(path, `${JSON.stringify(daemon, null, 2)}\n`, { mode: 0o600 });
  return path;
}

/**
 * Reads the description of a home's daemon. A killed daemon leaves its description behind.
 * @returns null if there is no description
 */
export async function readDaemonFile(home: string, role: Role): Promise<DaemonFile | null> {
  const text = await readFile(daemonFile(home, role), 'utf8').catch(nullIfMissing);
  return text === null ? null : (JSON.parse(text) as DaemonFile);
}

/** Returns the error DAEMON_NOT_RUNNING, with advice that depends on the role that owns the home. */
export function notRunning(home: string, role: Role, cause?: unknown): SwarmError {
  const owner = homeRole(home);
  const message = `no ${role} is running in ${home}`;
  if (owner !== null && owner !== role) {
    return storageError(
      'DAEMON_NOT_RUNNING',
      `${message}: it is the home of a ${owner}`,
      { home, role, owner },
      {
        next: `name the home of a ${role} with --home, or look at the ${owner} with "lora-swarm status --home ${home}"`,
        cause,
      },
    );
  }
  const start = role === 'coordinator' ? 'lora-swarm coordinator' : 'lora-swarm node -';
  return storageError(
    'DAEMON_NOT_RUNNING',
    message,
    { home, role },
    {
      next: `start one with "${start} --home ${home}"; if one runs in another home folder, name that folder with --home`,
      cause,
    },
  );
}

/** Returns whether an error says that no daemon runs, or that it ended before it had answered. */
export function isDaemonAway(error: unknown): boolean {
  return isSwarmError(error, 'DAEMON_NOT_RUNNING') || isSwarmError(error, 'DAEMON_GONE');
}

function daemonFile(home: string, role: Role): string {
  return join(home, `${role}.json`);
}
