import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from '../common/folders.ts';
import { homeRole } from './daemon-file.ts';
import { cliError } from './error-codes.ts';
import type { Role } from './homes.ts';
import { DRAIN_MS } from './signals.ts';

/** The daemon's own part of the drain: the rest is for the process to end. */
export const STOP_DEADLINE_MS = DRAIN_MS - 500;
/** How often the foreground looks at what its daemon does. */
const LOOK_MS = 500;

/**
 * Makes a daemon's folder, for its owner alone. A folder belongs to one role: two daemons with one key would be one peer
 * to others. @throws SwarmError HOME_ROLE, FOLDER_UNUSABLE
 */
export async function claimHome(home: string, role: Role): Promise<void> {
  const owner = homeRole(home);
  if (owner !== null && owner !== role) {
    throw cliError(
      'HOME_ROLE',
      `${home} is the folder of a ${owner}`,
      { home },
      { next: `give this ${role} a folder of its own with --home` },
    );
  }
  await makeFolder(home, { mode: 0o700 });
}

/** Calls `look` twice a second until the signal aborts. */
export async function whileRunning(signal: AbortSignal, look: () => Promise<void> | void): Promise<void> {
  while (!signal.aborted) {
    await look();
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
  }
}
