import type { Command } from 'commander';
import { Option } from 'commander';
import type { ApiClient, BanView, FormerPeer } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import { confirm } from '../confirm.ts';
import type { Context } from '../context.ts';
import { coordinatorApi } from '../daemon/connect.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, jsonOption, lifetime } from '../options/common.ts';
import { printJson, printLines, printWrapped, terminalColumns } from '../print.ts';
import { banLines, MEANING_INDENT, peerLines, presentLines, receiptLines } from '../views/peers.ts';

/**
 * Minimum number of characters from the end of a peer id that can select a peer. A shorter end often matches several
 * peers.
 */
const SUFFIX_CHARACTERS = 4;

/** Help text of an argument that names a node. */
const NODE = 'name of the node, its peer id or the end of the peer id';

interface CommonOptions {
  home?: string;
  json?: boolean;
}

interface PardonOptions extends CommonOptions {
  job?: string;
  yes?: boolean;
}

interface BanOptions extends PardonOptions {
  reason?: string;
  /** Milliseconds that the ban lasts; Infinity if it never ends. */
  for: number;
}

export function registerPeers(program: Command, context: Context): void {
  const command = program
    .command('peers')
    .helpCommand(false)
    .description("list, ban and pardon the nodes of the coordinator's jobs")
    .option(
      '--why <peer>',
      `show the health, the round-trip time, the standing, the strikes and the outcome of every update of one node, with the reasons; <peer> is the ${NODE}`,
    )
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((options: CommonOptions & { why?: string }) => peers(context, options));
  // Commander assigns --home and --json to `peers` even if they come after `ban` or `pardon`. The actions therefore read
  // the options of both commands.
  const add = (name: string, text: string): Command =>
    command
      .command(name)
      .description(text)
      .argument('<peer>', NODE)
      .option(
        '--job <job>',
        'apply the command only to this job, given by its name or digest (default: to all jobs)',
      )
      .option('--yes', 'do not ask for confirmation on a terminal')
      .addOption(homeOption())
      .addOption(jsonOption());
  add(
    'ban',
    'remove a node from the jobs, and refuse it from now on; this also applies to all nodes that joined with the same personal invite',
  )
    .option('--reason <text>', 'reason that the node sees')
    .addOption(
      new Option(
        '--for <time>',
        'time after which the ban ends, such as 30m, 12h or 7d; "never" means that the ban does not end',
      )
        .argParser(lifetime)
        .default(Number.POSITIVE_INFINITY, 'never'),
    )
    .action((peer: string, _: object, own: Command) => ban(context, peer, own.optsWithGlobals<BanOptions>()));
  add('pardon', 'lift the bans of a node, and clear its strikes').action(
    (peer: string, _: object, own: Command) => pardon(context, peer, own.optsWithGlobals<PardonOptions>()),
  );
}

async function peers(context: Context, { home, why, json }: CommonOptions & { why?: string }): Promise<void> {
  const api = await coordinatorApi(context, { home });
  const [all, bans, former] = await Promise.all([api.peers(), api.bans(), api.formerPeers()]);
  if (why === undefined) {
    if (json) printJson(context, { schemaVersion: 1, peers: all, bans });
    else {
      const columns = terminalColumns(context);
      printLines(context, [...peerLines(all, columns), ...banLines(bans, { former, columns })]);
    }
    return;
  }
  // A node that was removed is found by its invite or as a former peer.
  const removed = [...(await invitedNodes(api)), ...former];
  const receipts = await api.receipts(choosePeer([...all, ...bans], why, removed));
  const present = all.filter(({ peer }) => peer === receipts.peer);
  if (json) printJson(context, { schemaVersion: 1, ...receipts, present });
  else printWrapped(context, [...presentLines(present), ...receiptLines(receipts)], MEANING_INDENT);
}

async function ban(
  context: Context,
  text: string,
  { reason = '', for: ms, job, yes, ...options }: BanOptions,
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const peer = choosePeer(await api.peers(), text, await api.formerPeers());
  const where = job === undefined ? 'all jobs' : `job ${job}`;
  if (!yes && !options.json) await confirm(context, `Ban ${peer} from ${where}?`);
  const forMs = Number.isFinite(ms) ? ms : null;
  const receipts = await api.ban(peer, { job: job ?? null, reason, forMs });
  if (options.json) printJson(context, { schemaVersion: 1, ...receipts });
  else {
    const undo = `${SWARM} peers pardon ${peer}${job === undefined ? '' : ` --job ${job}`}`;
    printLines(context, [`${peer} is banned from ${where}`, `next: to lift the ban, run ${undo}`]);
  }
}

async function pardon(
  context: Context,
  text: string,
  { job, yes, ...options }: PardonOptions,
): Promise<void> {
  const api = await coordinatorApi(context, options);
  const [all, bans, former] = await Promise.all([api.peers(), api.bans(), api.formerPeers()]);
  const peer = choosePeer([...all, ...bans], text, former);
  const where = job === undefined ? 'all jobs' : `job ${job}`;
  if (!yes && !options.json)
    await confirm(context, `Lift the bans and clear the strikes of ${peer} in ${where}?`);
  const receipts = await api.pardon(peer, { job: job ?? null });
  if (options.json) {
    printJson(context, { schemaVersion: 1, ...receipts });
    return;
  }
  const left = receipts.bans.filter(({ pardonedAt, until }) => {
    return pardonedAt === null && (until === null || until > context.clock.now());
  });
  printLines(context, [
    `${peer} is pardoned in ${where}`,
    ...(left.length > 0 ? ['a ban from all jobs is still in force'] : []),
    'next: a node that was banned has stopped; its owner has to start it again',
  ]);
}

/** Returns the nodes that have used a personal invite, also those that are no longer members. */
async function invitedNodes(api: ApiClient): Promise<{ peer: string; name: string }[]> {
  const jobs = await api.jobs();
  const invites = await Promise.all(jobs.map(({ job }) => api.invites(job)));
  return invites.flat().flatMap(({ nodes }) => nodes.map(({ peer, name }) => ({ peer, name: name ?? '' })));
}

/**
 * Finds a peer by its id, its name, or the end of its id ("…x7Qk" as other commands print it).
 * @param former nodes that were removed; they count only if no other node matches
 */
export function choosePeer(
  peers: readonly Pick<BanView, 'peer' | 'name'>[],
  text: string,
  former: readonly FormerPeer[] = [],
): string {
  const end = text.replace(/^…/, '');
  const matches = (p: Pick<BanView, 'peer' | 'name'>): boolean =>
    p.peer === text || p.name === text || (end.length >= SUFFIX_CHARACTERS && p.peer.endsWith(end));
  const found = peers.some(matches) ? peers : former;
  const ids = [...new Set(found.filter(matches).map((p) => p.peer))];
  if (ids.length === 1) return ids[0]!;
  if (ids.length === 0) {
    // A node that left long ago is not in the lists, but the coordinator may still have its receipts.
    if (text.startsWith('12D3KooW')) return text;
    throw cliError(
      'PEER_NOT_FOUND',
      `no node has the name "${text}" or a peer id that ends with it`,
      {},
      { next: 'list the nodes with "lora-swarm peers"' },
    );
  }
  throw usageError(`"${text}" matches ${ids.length} nodes: ${ids.join(', ')}`, 'give the whole peer id');
}
