import { existsSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { Argument, type Command } from 'commander';
import { writeDurably } from '../../common/durable.ts';
import { makeFolder } from '../../common/folders.ts';
import { resolveCache, resolveHomes, resolveRegistry } from '../../common/user-folders.ts';
import { claimHome, type Role } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, integer, jsonOption } from '../options/common.ts';
import { inviteFileOption, readInviteText } from '../options/target-input.ts';
import { printJson, printLines } from '../print.ts';
import {
  assertInstalled,
  installService,
  managerOf,
  type ServiceSystem,
  serviceState,
  uninstallService,
} from '../service/manage.ts';
import { runCall, showCall } from '../service/run-call.ts';
import type { Service, ServiceId } from '../service/service.ts';

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
/** Variables that a daemon reads and that a login shell may have set. Tokens and invites are not among them. */
const VARIABLES = [
  'SWARM_CACHE',
  'SWARM_REGISTRY',
  'XDG_CACHE_HOME',
  'XDG_DATA_HOME',
  'HF_HOME',
  'HF_HUB_CACHE',
];

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
    .option('--force', 'replace an existing file that differs')
    .addOption(jsonOption())
    .action((role: Role, more: string[], flags: InstallFlags) => install(context, role, more, flags));
  service
    .command('uninstall')
    .description('stop a service and delete its file; the home of the daemon stays')
    .addArgument(role())
    .addOption(homeOption())
    .addOption(jsonOption())
    .action(async (role: Role, { home, json }: ServiceOptions) => {
      const file = await uninstallService(idOf(context, role, home), systemOf(context));
      if (json) printJson(context, { schemaVersion: 1, role, file });
      else printLines(context, [`deleted     ${file}`, `kept        ${idOf(context, role, home).home}`]);
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
      throw cliError('SERVICE_FAILED', `"${call.join(' ')}" ended with exit code ${code}`, { call, code });
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
  const secret = more.find((word) => /^(swarm1|--home\b|--invite-file\b)/.test(word));
  if (secret !== undefined) {
    throw usageError(
      `${secret.startsWith('-') ? secret : 'an invite'} cannot be an option of the daemon, because other users can read the arguments of a process`,
      'give --home or --invite-file before "--", or pass the invite in SWARM_INVITE',
    );
  }
  await claimHome(home, role);
  const service = await describe(context, role, home, more, flags);
  const { file, calls } = await installService(
    service,
    { start: flags.start, force: flags.force ?? false },
    system,
  );
  if (flags.json)
    printJson(context, { schemaVersion: 1, role, home, file, started: flags.start, commands: calls });
  else {
    printLines(context, [
      `written     ${file}`,
      `home        ${home}`,
      ...(flags.start ? ['started     it also starts at your next login'] : []),
      ...(flags.start ? [] : calls.map((call) => `next        ${call.join(' ')}`)),
      `next        lora-swarm service status; lora-swarm service logs ${role}; lora-swarm status`,
      ...(system.manager.advice === null ? [] : [`note        ${system.manager.advice}`]),
    ]);
  }
}

async function describe(
  context: Context,
  role: Role,
  home: string,
  more: readonly string[],
  { inviteFile }: InstallFlags,
): Promise<Service> {
  const { environment, cwd, self } = context;
  const writable = [
    resolveCache(environment, cwd),
    ...(role === 'coordinator' ? [resolveRegistry(environment, cwd)] : []),
    environment.HF_HOME || join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'),
    ...(environment.HF_HUB_CACHE ? [environment.HF_HUB_CACHE] : []),
  ];
  // The service may write only to folders that exist when it starts.
  for (const folder of writable) await makeFolder(folder);
  const variables = VARIABLES.flatMap((name) => (environment[name] ? [[name, environment[name]]] : []));
  return {
    role,
    home,
    command: [
      self.node,
      self.script,
      role,
      '--home',
      home,
      ...(role === 'node' ? ['--invite-file', await keepInvite(context, home, inviteFile)] : []),
      ...more,
    ],
    environment: Object.fromEntries(variables),
    writable,
  };
}

/**
 * Writes the invite to the file `invite` in the home. Only the file's owner can read the file. If no invite
 * was given, keeps the file of an earlier installation.
 */
async function keepInvite(context: Context, home: string, inviteFile: string | undefined): Promise<string> {
  const file = join(home, 'invite');
  const isNew = inviteFile !== undefined || !!context.environment.SWARM_INVITE;
  if (!isNew && existsSync(file)) return file;
  const given = isNew ? [] : ['-'];
  await writeDurably(file, `${await readInviteText(context, given, { inviteFile })}\n`, { mode: 0o600 });
  return file;
}

function idOf({ environment, cwd }: Context, role: Role, home: string | undefined): ServiceId {
  return { role, home: resolveHomes(home, environment, cwd)[role] };
}

function systemOf({ environment }: Context): ServiceSystem {
  const folder = environment.HOME || homedir();
  const config = environment.XDG_CONFIG_HOME || join(folder, '.config');
  return { manager: managerOf(process.platform), user: { folder, config, id: userInfo().uid }, run: runCall };
}
