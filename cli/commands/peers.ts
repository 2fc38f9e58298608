import type { Command } from 'commander';
import type { PeerView } from '../../coordinator/api/types.ts';
import { coordinatorApi } from '../connect.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, jsonOption } from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { peerLines, receiptLines } from '../views/peers.ts';

/** Fewer characters of a peer id would often fit several. */
const SUFFIX_CHARACTERS = 4;

interface PeersOptions {
  home?: string;
  why?: string;
  json?: boolean;
}

export function registerPeers(program: Command, context: Context): void {
  program
    .command('peers')
    .description("the nodes of this coordinator's jobs")
    .option('--why <peer>', 'what became of the updates of one node (id, its end, or name), and why')
    .addOption(homeOption())
    .addOption(jsonOption())
    .action((options: PeersOptions) => peers(context, options));
}

async function peers(context: Context, { home, why, json }: PeersOptions): Promise<void> {
  const api = await coordinatorApi(context, { home });
  const all = await api.peers();
  if (why === undefined) {
    if (json) printJson(context, { schemaVersion: 1, peers: all });
    else printLines(context, peerLines(all));
    return;
  }
  const receipts = await api.receipts(choosePeer(all, why));
  if (json) printJson(context, { schemaVersion: 1, ...receipts });
  else printLines(context, receiptLines(receipts));
}

/** The one peer with this id, name, or end of an id ("…x7Qk" as other commands print it). */
export function choosePeer(peers: readonly Pick<PeerView, 'peer' | 'name'>[], text: string): string {
  const end = text.replace(/^…/, '');
  const fits = (p: Pick<PeerView, 'peer' | 'name'>): boolean =>
    p.peer === text || p.name === text || (end.length >= SUFFIX_CHARACTERS && p.peer.endsWith(end));
  const ids = [...new Set(peers.filter(fits).map((p) => p.peer))];
  if (ids.length === 1) return ids[0]!;
  if (ids.length === 0) {
    // A node of the past is not in the list, but the coordinator may still know its receipts.
    if (text.startsWith('12D3KooW')) return text;
    throw cliError(
      'PEER_NOT_FOUND',
      `no node has the name "${text}", or an id that ends so`,
      {},
      { next: 'list them with "swarm peers"' },
    );
  }
  throw usageError(`"${text}" fits ${ids.length} nodes: ${ids.join(', ')}`, 'give the whole peer id');
}
