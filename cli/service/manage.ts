/** Installs and removes the services with which the operating system runs a user's daemons, and reads their state. */
import { readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from '../../common/files/durable.ts';
import { nullIfMissing } from '../../common/files/file-system.ts';
import { makeFolder } from '../../common/files/folders.ts';
import type { Role } from '../../storage/daemon-home.ts';
import { cliError } from '../error-codes.ts';
import { launchd } from './launchd.ts';
import {
  type Call,
  MARK,
  type Service,
  type ServiceId,
  type ServiceManager,
  STOP_SECONDS,
  type User,
} from './service.ts';
import { systemd } from './systemd.ts';
import { windowsTasks } from './windows-tasks.ts';

export interface ServiceSystem {
  readonly manager: ServiceManager;
  readonly user: User;
  /** Runs a program to its end. `code` is 127 if the program does not exist. */
  run(call: Call): Promise<{ code: number; output: string }>;
  /** Waits for STOP_POLL_MS, after which the service manager is asked again whether a service has stopped. */
  pause(): Promise<void>;
}

/** Returns the service manager of an operating system. @throws SwarmError SERVICE_UNSUPPORTED */
export function managerOf(platform: NodeJS.Platform): ServiceManager {
  const managers: Partial<Record<NodeJS.Platform, ServiceManager>> = {
    linux: systemd,
    darwin: launchd,
    win32: windowsTasks,
  };
  const manager = managers[platform];
  if (manager !== undefined) return manager;
  throw cliError(
    'SERVICE_UNSUPPORTED',
    `this program knows no service manager for ${platform}`,
    { platform },
    { next: 'start the daemon with the service manager of your system' },
  );
}

interface InstallOptions {
  /** Whether to start the service after its file was written. */
  readonly start: boolean;
  /** Whether to replace an existing service file with a different content. */
  readonly force: boolean;
  /** Writes files that the daemon needs. Called after all checks, before the daemon starts. @default writes no files */
  readonly prepare?: () => Promise<void>;
}

/** Interval in milliseconds at which the service manager is asked whether a service has stopped. */
export const STOP_POLL_MS = 500;
/**
 * Maximum number of times that the service manager is asked. It is asked for the last time 5 s after the time
 * at which the system kills a daemon.
 */
const STOP_POLLS = ((STOP_SECONDS + 5) * 1000) / STOP_POLL_MS;

/**
 * Writes the file of a service, and starts the service. If the service is installed already, stops it first: service
 * managers do not apply a new file to a running service.
 * @returns path of the file, and the calls of the service manager: the calls that were made or, without `start`, the
 *   calls that the user can make
 * @throws SwarmError SERVICE_EXISTS, SERVICE_FAILED
 */
export async function installService(
  service: Service,
  { start, force, prepare }: InstallOptions,
  system: ServiceSystem,
): Promise<{ file: string; calls: Call[] }> {
  const { manager, user } = system;
  const file = manager.file(service, user);
  const text = manager.text(service);
  const found = await textOf(file, manager);
  if (found !== null && found !== text && !force) {
    throw cliError(
      'SERVICE_EXISTS',
      `${file} exists and differs from the file that this command would write`,
      { file },
      { next: 'look at the file, and add --force to replace it' },
    );
  }
  const stops = found === null ? [] : manager.stop(service, user);
  if (start && found !== null) await stopService(service, system);
  await prepare?.();
  await makeFolder(dirname(file));
  await writeDurably(file, encoded(text, manager), { mode: 0o600 });
  const starts = manager.start(service, user);
  if (start) await runAll(starts, service, system, file);
  return { file, calls: [...stops, ...starts] };
}

/** Stops a service and removes it from the system. Returns when its daemon has ended. */
async function stopService(service: ServiceId, { manager, user, run, pause }: ServiceSystem): Promise<void> {
  // A service that does not run cannot be stopped, so failures of these calls are ignored.
  for (const call of manager.stop(service, user)) await run(call);
  // Wait until the daemon has ended. launchctl returns earlier, but refuses to start the service again before
  // that moment.
  for (let polls = 0; polls < STOP_POLLS; polls++) {
    if (!manager.isRunning(await run(manager.state(service, user)))) return;
    await pause();
  }
}

/**
 * Stops a service and deletes its file. The home of the daemon stays.
 * @returns path of the deleted file, and the home of the daemon
 * @throws SwarmError SERVICE_NOT_FOUND, SERVICE_EXISTS
 */
export async function uninstallService(
  service: ServiceId,
  system: ServiceSystem,
): Promise<{ file: string; home: string }> {
  const { manager, user, run } = system;
  const file = manager.file(service, user);
  const found = await textOf(file, manager);
  if (found === null) throw notInstalled(service.role, file);
  if (!found.includes(MARK)) {
    throw cliError(
      'SERVICE_EXISTS',
      `${file} was not written by this program`,
      { file },
      { next: 'delete the file yourself, if you no longer need it' },
    );
  }
  await stopService(service, system);
  await rm(file);
  for (const call of manager.forget()) await run(call);
  return { file, home: manager.homeIn(found) ?? service.home };
}

export interface ServiceState {
  readonly role: Role;
  readonly file: string;
  readonly installed: boolean;
  readonly running: boolean;
}

export async function serviceState(service: ServiceId, system: ServiceSystem): Promise<ServiceState> {
  const { manager, user, run } = system;
  const file = manager.file(service, user);
  const installed = (await textOf(file, manager)) !== null;
  const running = installed && manager.isRunning(await run(manager.state(service, user)));
  return { role: service.role, file, installed, running };
}

/** @throws SwarmError SERVICE_NOT_FOUND */
export async function assertInstalled(service: ServiceId, system: ServiceSystem): Promise<void> {
  const { file, installed } = await serviceState(service, system);
  if (!installed) throw notInstalled(service.role, file);
}

function notInstalled(role: Role, file: string): Error {
  return cliError(
    'SERVICE_NOT_FOUND',
    `the ${role} is not installed as a service, because there is no file ${file}`,
    { role, file },
    { next: `install it with "lora-swarm service install ${role}"` },
  );
}

async function runAll(
  calls: readonly Call[],
  { role, home }: ServiceId,
  { run, manager }: ServiceSystem,
  file: string,
): Promise<void> {
  for (const [i, call] of calls.entries()) {
    const { code, output } = await run(call);
    if (code === 0) continue;
    const hasManager = code !== 127 && !manager.isAbsent(output);
    const what = hasManager
      ? `${manager.name} did not start the service`
      : `this session has no ${manager.name} of your user, so the service does not run`;
    const reason = code === 127 ? `there is no program ${call[0]}` : output.trim().split('\n').at(-1);
    const left = calls.slice(i).map((one) => `"${one.join(' ')}"`);
    const where = hasManager ? '' : `in a session with ${manager.name}, `;
    throw cliError(
      'SERVICE_FAILED',
      `${file} was written, but ${what}: ${reason}`,
      { file, call, code },
      {
        next: `${where}run ${left.join(' and then ')}; or start the daemon in a terminal: lora-swarm ${role} --home ${home}`,
      },
    );
  }
}

async function textOf(file: string, { encoding }: ServiceManager): Promise<string | null> {
  const text = await readFile(file, encoding).catch(nullIfMissing);
  return text === null ? null : text.replace(/^\uFEFF/, '');
}

/** Returns the bytes of a text. UTF-16 needs a byte order mark. */
function encoded(text: string, { encoding }: ServiceManager): Buffer {
  return Buffer.from(encoding === 'utf16le' ? `\uFEFF${text}` : text, encoding);
}
