import type { Command } from 'commander';
import { safeText } from '../../common/text.ts';
import type { ApiClient } from '../../index.ts';
import type { Role } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';
import { runningDaemons } from '../daemon/running.ts';
import { cliError } from '../error-codes.ts';
import { homeOption, jsonOption } from '../options/common.ts';
import { printJson, printLines, printWrapped } from '../print.ts';
import { nodeLines } from '../views/node.ts';
import { coordinatorLines, STATUS_INDENT } from '../views/status.ts';
import { homeFlag } from '../views/thanks.ts';

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
  const daemons = await runningDaemons(context, home);
  for (const [i, { role, api, answer, home: own }] of daemons.entries()) {
    if (json) printJson(context, answer);
    else {
      if (i > 0) printLines(context, ['']);
      const lines =
        answer.role === 'coordinator'
          ? coordinatorLines(answer, api.url)
          : nodeLines(answer, api.url, homeFlag(context, own));
      printWrapped(context, lines, STATUS_INDENT);
    }
    if (check) await assertReady(api, role);
  }
}

async function assertReady(api: ApiClient, role: Role): Promise<void> {
  const report = await api.ready();
  if (report.ok) return;
  const reasons = report.failing.map(({ check, reason }) => `${check}: ${safeText(reason)}`).join('; ');
  throw cliError(
    'UNHEALTHY',
    `the ${role} is not ready: ${reasons}`,
    { failing: report.failing },
    { next: 'run "lora-swarm doctor --swarm" to see the causes and what to do' },
  );
}
