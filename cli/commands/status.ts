import type { Command } from 'commander';
import type { CoordinatorStatus } from '../../coordinator/api-types.ts';
import { safeText } from '../../monitor/text.ts';
import type { NodeStatus } from '../../node/api-types.ts';
import { SwarmError } from '../../protocol/errors.ts';
import { ApiClient } from '../api-client.ts';
import type { Context } from '../context.ts';
import { readDaemonFile } from '../daemon-file.ts';
import { type Role, resolveHomes } from '../homes.ts';
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
    .description('what the coordinator or node on this machine is doing, on one screen')
    .addOption(homeOption())
    .option('--check', 'exit with 8 when a health check fails, for container health checks')
    .addOption(jsonOption())
    .action((options: StatusOptions) => status(context, options));
}

async function status(context: Context, { home, json, check }: StatusOptions): Promise<void> {
  const daemons = await running(context, home);
  for (const { role, api } of daemons) {
    if (role === 'coordinator') {
      const answer = await api.status<CoordinatorStatus>();
      if (json) printJson(context, answer);
      else printLines(context, coordinatorLines(answer, api.url));
    } else {
      const answer = await api.status<NodeStatus>();
      if (json) printJson(context, answer);
      else printLines(context, nodeLines(answer, api.url));
    }
    if (check) await assertReady(api, role);
  }
}

/** The daemons that run in the named home, or in the default ones. */
async function running(
  context: Context,
  home: string | undefined,
): Promise<{ role: Role; api: ApiClient }[]> {
  const homes = resolveHomes(home, context.environment, context.cwd);
  const found: { role: Role; api: ApiClient }[] = [];
  for (const role of ['coordinator', 'node'] as const) {
    if ((await readDaemonFile(homes[role], role)) !== null) {
      found.push({ role, api: await ApiClient.open(homes[role], role, context) });
    }
  }
  // With none there is an error to show: the coordinator's says how to start one.
  if (found.length === 0) await ApiClient.open(homes.coordinator, 'coordinator', context);
  return found;
}

async function assertReady(api: ApiClient, role: Role): Promise<void> {
  const report = await api.ready();
  if (report.ok) return;
  const reasons = report.failing.map(({ check, reason }) => `${check}: ${safeText(reason)}`).join('; ');
  throw new SwarmError('UNHEALTHY', `the ${role} is not ready: ${reasons}`, { failing: report.failing });
}
