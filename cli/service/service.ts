import type { Role } from '../../storage/daemon-home.ts';

/** A daemon that the operating system starts and restarts for one user. */
export interface Service {
  readonly role: Role;
  /** Folder of the daemon, as an absolute path. */
  readonly home: string;
  /** Program and arguments. Other users can read them, so they hold no invite. */
  readonly command: readonly string[];
  /** Environment variables of the daemon, without secrets. */
  readonly environment: Readonly<Record<string, string>>;
  /** Folders besides `home` that the daemon writes to. */
  readonly writable: readonly string[];
}

/** A program with its arguments. */
export type Call = readonly [string, ...string[]];

/** The user who installs a service, and under whose account the service runs. */
export interface User {
  /** Home folder of the user. */
  readonly folder: string;
  /** The user's id (uid); -1 on Windows. */
  readonly id: number;
  /** Folder of the user's configuration files: XDG_CONFIG_HOME, else `.config` in the home folder. */
  readonly config: string;
}

export type ServiceId = Pick<Service, 'role' | 'home'>;

/** The part of an operating system that runs services. All functions are pure: they return texts and calls. */
export interface ServiceManager {
  readonly name: string;
  /** Path of the file that describes the service. */
  file(service: ServiceId, user: User): string;
  /** Content of the file that describes the service. It contains {@link MARK}. */
  text(service: Service): string;
  /** Reads the home of the daemon from a text of {@link ServiceManager.text}; null if the text does not name it. */
  homeIn(text: string): string | null;
  /** Encoding of the file that describes the service. */
  readonly encoding: 'utf8' | 'utf16le';
  /** Calls that register the service, start it now, and start it at every login. */
  start(service: ServiceId, user: User): Call[];
  /** Calls that stop the service and remove it from the system, before its file is deleted. */
  stop(service: ServiceId, user: User): Call[];
  /** Calls to make after the file has been deleted, so that the system notices the deletion. */
  forget(): Call[];
  /** Returns whether the output of a failed call says that no service manager runs for the user in this session. */
  isAbsent(output: string): boolean;
  /** A call whose output tells whether the service runs. */
  state(service: ServiceId, user: User): Call;
  isRunning(state: { code: number; output: string }): boolean;
  /** A call that prints the newest lines of the service's log. With `follow`, the call then prints each further line. */
  logs(service: ServiceId, options: { lines: number; follow: boolean }): Call;
  /** Advice that follows a successful start; null if there is none. */
  readonly advice: string | null;
}

/** Line in every file that `lora-swarm service install` writes. A file without it belongs to the user. */
export const MARK = 'Written by lora-swarm service install.';

/** Seconds until the system kills a daemon that does not stop. A daemon itself takes at most 5 s. */
export const STOP_SECONDS = 15;
/** Seconds between the failure of a daemon and its next start, so that a daemon that always fails does little harm. */
export const RESTART_SECONDS = 30;

export function serviceName(role: Role): string {
  return `lora-swarm-${role}`;
}
