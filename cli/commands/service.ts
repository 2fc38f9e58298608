import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Argument, type Command } from 'commander';
import { makeFolder } from '../../common/files/folders.ts';
import { resolveCache, resolveHomes, resolveRegistry } from '../../common/files/user-folders.ts';
import { hubSettings } from '../../lora/models/hub/settings.ts';
import { keepInvites, readKnownJobs } from '../../node/store/known-jobs.ts';
import { claimHome, type Role } from '../../storage/daemon-home.ts';
import { SWARM } from '../command-name.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, integer, jsonOption } from '../options/common.ts';
import { inviteFileOption, readInvites } from '../options/target-input.ts';
import { printJson, printLines } from '../print.ts';
import {
  assertInstalled,
  installService,
  managerOf,
  type ServiceSystem,
  STOP_POLL_MS,
  serviceState,
  uninstallService,
} from '../service/manage.ts';
import { placesOf } from '../service/places.ts';
import { runCall, showCall } from '../service/run-call.ts';
import type { Service, ServiceId } from '../service/service.ts';
import { homeFlag } from '../views/thanks.ts';

interface ServiceOptions {
  home?: string;
  json?: boolean;
}

interface InstallFlags extends ServiceOptions {
  inviteFile?: string;
  start: boolean;
  force?: boolean;
}

const ROLES = ['node', 'coordinator'] as const;
export function registerService(program: Command, context: Context): void {
  const service = program
    .command('service')
    .description('run a node or a coordinator in the background, without a terminal');
  const role = (): Argument => new Argument('<role>', 'daemon that the service runs').choices(ROLES);
  service
    .command('install')
    .description(
      'install and start a service of your user: a systemd user unit, a launchd agent or a Windows scheduled task',
    )
    .addArgument(role())
    .argument(
      '[option...]',
      'after "--": options of "lora-swarm node" or "lora-swarm coordinator", such as -- --threads 2',
    )
    .addOption(inviteFileOption())
    .addOption(homeOption())
    .option('--no-start', 'only write the file, and print the commands that start the service')
    .option('--force', 'replace an existing file that differs, and restart the service')
    .addOption(jsonOption())
    .action((role: Role, more: string[], flags: InstallFlags) => install(context, role, more, flags));
  service
    .command('uninstall')
    .description('stop a service, and delete its file; the home stays, with the invites of a node')
    .addArgument(role())
    .addOption(homeOption())
    .addOption(jsonOption())
    .action(async (role: Role, { home, json }: ServiceOptions) => {
      const id = idOf(context, role, home);
      const { file, home: kept } = await uninstallService(id, systemOf(context));
      if (json) printJson(context, { schemaVersion: 1, role, file, kept });
      else {
        const invites = role === 'node' ? ', with the invites of this node' : '';
        printLines(context, [`deleted     ${file}`, `kept        ${kept}${invites}`]);
      }
    });
  service
    .command('status')
    .description('show which services are installed and running')
    .addOption(homeOption())
    .addOption(jsonOption())
    .action(async ({ home, json }: ServiceOptions) => {
      const system = systemOf(context);
      for (const role of ROLES) {
        const state = await serviceState(idOf(context, role, home), system);
        if (json) printJson(context, { schemaVersion: 1, manager: system.manager.name, ...state });
        else if (!state.installed) printLines(context, [`${role.padEnd(11)} not installed`]);
        else
          printLines(context, [`${role.padEnd(11)} ${state.running ? 'running' : 'stopped'}  ${state.file}`]);
      }
    });
  service
    .command('logs')
    .description('print the output of a service')
    .addArgument(role())
    .addOption(homeOption())
    .option('--lines <n>', 'number of lines', integer(1, 100_000), 100)
    .option('--follow', 'also print new lines, until Ctrl-C')
    .addOption(jsonOption())
    .action(async (role: Role, options: ServiceOptions & { lines: number; follow?: boolean }) => {
      const system = systemOf(context);
      const id = idOf(context, role, options.home);
      await assertInstalled(id, system);
      const { lines, follow = false } = options;
      const call = system.manager.logs(id, { lines, follow });
      if (options.json) return printJson(context, { schemaVersion: 1, command: call });
      const code = await showCall(call, context.signal);
      if (code === 0) return;
      throw cliError(
        'SERVICE_FAILED',
        `"${call.join(' ')}" ended with exit code ${code}`,
        { call, code },
        { next: 'read the log file of the daemon instead, with "lora-swarm logs"' },
      );
    });
}

async function install(
  context: Context,
  role: Role,
  more: readonly string[],
  flags: InstallFlags,
): Promise<void> {
  const { home } = idOf(context, role, flags.home);
  const system = systemOf(context);
  checkDaemonOptions(more);
  await claimHome(home, role);
  const invites =
    role === 'node'
      ? await readInvites(context, flags, { needed: (await readKnownJobs(home)).length === 0 })
      : [];
  const { file, calls } = await installService(
    await describe(context, role, home, more),
    {
      start: flags.start,
      force: flags.force ?? false,
      prepare: () => (invites.length === 0 ? Promise.resolve() : keepInvites(home, invites)),
    },
    system,
  );
  if (flags.json)
    printJson(context, { schemaVersion: 1, role, home, file, started: flags.start, commands: calls });
  else {
    const flag = role === 'node' || flags.home !== undefined ? homeFlag(context, home) : '';
    printLines(context, [
      `written     ${file}`,
      `home        ${home}`,
      ...(flags.start ? ['started     it also starts at your next login'] : []),
      ...(flags.start ? [] : calls.map((call) => `next        ${call.join(' ')}`)),
      `next        ${SWARM} service status${flag}; ${SWARM} service logs ${role}${flag}; ${SWARM} status${flag}`,
      ...(system.manager.advice === null ? [] : [`note        ${system.manager.advice}`]),
    ]);
  }
}

/** @throws SwarmError USAGE if an invite or an option of "service install" is among the options of the daemon */
function checkDaemonOptions(words: readonly string[]): void {
  if (words.some((word) => word.startsWith('swarm1'))) {
    throw usageError(
      'the options after "--" contain an invite, and other users of this machine can read the options of a daemon',
      'pass the invite with --invite-file before "--", or in the environment variable SWARM_INVITE',
    );
  }
  const option = words.map((word) => /^--(home|invite-file)\b/.exec(word)?.[0]).find(Boolean);
  if (option === undefined) return;
  throw usageError(
    `${option} was given after "--", but it is an option of "lora-swarm service install"`,
    `move ${option} before "--"`,
  );
}

async function describe(
  { environment, cwd, self }: Context,
  role: Role,
  home: string,
  more: readonly string[],
): Promise<Service> {
  const writable = [
    resolveCache(environment, cwd),
    ...(role === 'coordinator' ? [resolveRegistry(environment, cwd)] : []),
    (await hubSettings(environment, cwd)).cacheDir,
  ];
  // The service may write only to folders that exist when it starts.
  for (const folder of writable) await makeFolder(folder);
  return {
    role,
    home,
    command: [self.node, self.script, role, '--home', home, ...more],
    environment: placesOf(environment, cwd),
    writable,
  };
}

function idOf({ environment, cwd }: Context, role: Role, home: string | undefined): ServiceId {
  return { role, home: resolveHomes(home, environment, cwd)[role] };
}

function systemOf({ environment }: Context): ServiceSystem {
  const folder = environment.HOME || homedir();
  const config = environment.XDG_CONFIG_HOME || join(folder, '.config');
  return {
    manager: managerOf(process.platform),
    user: { folder, config, id: userInfo().uid },
    run: runCall,
    pause: () => sleep(STOP_POLL_MS),
  };
}
