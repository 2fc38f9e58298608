import { dirname } from 'node:path';
import type { Command } from 'commander';
import { safeText } from '../../common/text.ts';
import { type Homes, resolveHomes } from '../../common/user-folders.ts';
import {
  type ApiClient,
  type CoordinatorStatus,
  connect,
  isSwarmError,
  type NodeStatus,
  type SwarmError,
} from '../../index.ts';
import { homeRole, notRunning, type Role, readDaemonFile } from '../../storage/daemon-home.ts';
import { storageError } from '../../storage/errors.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { homeOption, jsonOption } from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { nodeLines } from '../views/node.ts';
import { coordinatorLines } from '../views/status.ts';

interface StatusOptions {
  home?: string;
  json?: boolean;
  check?: boolean;
}

export function registerStatus(program: Command, context: Context): void {
  program
    .command('status')
    .description('show what the coordinator or node on this machine is doing')
    .addOption(homeOption())
    .option('--check', 'exit with code 8 if the daemon is not ready, for container health checks')
    .addOption(jsonOption())
    .action((options: StatusOptions) => status(context, options));
}

async function status(context: Context, { home, json, check }: StatusOptions): Promise<void> {
  const daemons = await running(context, home);
  for (const [i, { role, api, answer }] of daemons.entries()) {
    if (json) printJson(context, answer);
    else {
      if (i > 0) printLines(context, ['']);
      printLines(
        context,
        answer.role === 'coordinator' ? coordinatorLines(answer, api.url) : nodeLines(answer, api.url),
      );
    }
    if (check) await assertReady(api, role);
  }
}

interface Daemon {
  role: Role;
  api: ApiClient;
  answer: CoordinatorStatus | NodeStatus;
}

/**
 * Returns the daemons that answer in the named home, or in the default homes. A daemon that was killed leaves its daemon
 * file in the home, but does not answer.
 * @throws SwarmError DAEMON_NOT_RUNNING if none answers
 */
async function running(context: Context, home: string | undefined): Promise<Daemon[]> {
  const homes = resolveHomes(home, context.environment, context.cwd);
  const found: Daemon[] = [];
  for (const role of ['coordinator', 'node'] as const) {
    if ((await readDaemonFile(homes[role], role)) === null) continue;
    try {
      const api = await connect({ home: homes[role] }, { role, signal: context.signal });
      found.push({ role, api, answer: await api.status<CoordinatorStatus | NodeStatus>() });
    } catch (error) {
      if (!isSwarmError(error, 'DAEMON_NOT_RUNNING')) throw error;
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
      next: `start a daemon: "swarm coordinator${flag}" runs jobs, and "swarm node -${flag}" joins a job; if a daemon runs in another home folder, name that folder with --home`,
    },
  );
}

async function assertReady(api: ApiClient, role: Role): Promise<void> {
  const report = await api.ready();
  if (report.ok) return;
  const reasons = report.failing.map(({ check, reason }) => `${check}: ${safeText(reason)}`).join('; ');
  throw cliError('UNHEALTHY', `the ${role} is not ready: ${reasons}`, { failing: report.failing });
}
