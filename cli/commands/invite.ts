import type { Command } from 'commander';
import { Option } from 'commander';
import type { CreateInviteOptions } from '../../index.ts';
import type { Context } from '../context.ts';
import { chooseJob, coordinatorApi, JOB_ARGUMENT } from '../daemon/connect.ts';
import { noteReach } from '../job/create.ts';
import { homeOption, integer, jsonOption, lifetime } from '../options/common.ts';
import { printJson, printLines, terminalColumns } from '../print.ts';
import { createdInviteLines, inviteTable } from '../views/invites.ts';

interface CommonOptions {
  home?: string;
  json?: boolean;
}

interface CreateOptions extends CommonOptions {
  name?: string;
  role: NonNullable<CreateInviteOptions['role']>;
  uses: number;
  /** Milliseconds until the invite expires; Infinity if it never does. */
  expires: number;
}

export function registerInvite(program: Command, context: Context): void {
  const invite = program
    .command('invite')
    .helpCommand(false)
    .description('create, list and revoke the invites of a job');
  const add = (name: string, text: string): Command =>
    invite.command(name).description(text).addOption(homeOption()).addOption(jsonOption());

  add('create', 'create a personal invite and print it; the text of the invite cannot be printed again')
    .argument(...JOB_ARGUMENT)
    .option('--name <name>', 'name by which you know the person or machine (default: none)')
    .addOption(
      new Option(
        '--role <role>',
        'role of the nodes that join: a contributor trains, and an observer or operator only reads',
      )
        .choices(['contributor', 'observer', 'operator'])
        .default('contributor'),
    )
    .option(
      '--uses <n>',
      'number of machines that may join; a machine that has joined may join again at any time',
      integer(1),
      1,
    )
    .addOption(
      new Option(
        '--expires <time>',
        'time after which no further machine may join, such as 30m, 12h or 7d; "never" means that the invite does not expire',
      )
        .argParser(lifetime)
        .default(lifetime('7d'), '7d'),
    )
    .action((job: string | undefined, options: CreateOptions) => create(context, job, options));
  add('list', 'list the invites of a job, and the nodes that joined with each invite')
    .argument(...JOB_ARGUMENT)
    .action((job: string | undefined, options: CommonOptions) => list(context, job, options));
  add('revoke', 'revoke an invite for good, and remove the nodes that joined with it')
    .argument(
      '<invite>',
      'name of a personal invite, its id or the beginning of the id; or "shared" for the invite that "lora-swarm job create" prints',
    )
    .argument(...JOB_ARGUMENT)
    .action((id: string, job: string | undefined, options: CommonOptions) =>
      revoke(context, id, job, options),
    );
}

async function create(
  context: Context,
  job: string | undefined,
  { name, role, uses, expires, ...options }: CreateOptions,
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const request = { name: name ?? null, role, uses, lifetimeMs: Number.isFinite(expires) ? expires : null };
  const created = await api.createInvite(await chooseJob(api, job), request);
  await noteReach(context, created.text);
  if (options.json) printJson(context, { schemaVersion: 1, ...created });
  else printLines(context, createdInviteLines(created));
}

async function list(context: Context, job: string | undefined, options: CommonOptions): Promise<void> {
  const api = await coordinatorApi(context, options);
  const invites = await api.invites(await chooseJob(api, job));
  if (options.json) printJson(context, { schemaVersion: 1, invites });
  else printLines(context, inviteTable(invites, terminalColumns(context)));
}

async function revoke(
  context: Context,
  id: string,
  job: string | undefined,
  options: CommonOptions,
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const invite = await api.revokeInvite(await chooseJob(api, job), id);
  if (options.json) printJson(context, { schemaVersion: 1, ...invite });
  else {
    const who = invite.name === null ? invite.id : `${invite.id} (${invite.name})`;
    printLines(context, [`invite ${who} is revoked: its nodes are removed, and their messages are refused`]);
  }
}
