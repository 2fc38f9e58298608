import type { Command } from 'commander';
import type { PeerView } from '../../index.ts';
import { coordinatorApi } from '../connect.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { homeOption, jsonOption } from '../options.ts';
import { printJson, printLines } from '../print.ts';
import { peerLines, receiptLines } from '../views/peers.ts';

/**
 * Smallest number of characters from the end of a peer id that can select a peer. A shorter end often matches several
 * peers.
 */
const SUFFIX_CHARACTERS = 4;

interface PeersOptions {
  home?: string;
  why?: string;
  json?: boolean;
}

export function registerPeers(program: Command, context: Context): void {
  program
    .command('peers')
    .description("list the nodes of the coordinator's jobs")
    .option(
      '--why <peer>',
      'show the outcome of every update of one node, with the reason; name the node by its name, its peer id or the end of the peer id',
    )
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

/** Finds a peer by its id, its name, or the end of its id ("…x7Qk" as other commands print it). */
export function choosePeer(peers: readonly Pick<PeerView, 'peer' | 'name'>[], text: string): string {
  const end = text.replace(/^…/, '');
  const matches = (p: Pick<PeerView, 'peer' | 'name'>): boolean =>
    p.peer === text || p.name === text || (end.length >= SUFFIX_CHARACTERS && p.peer.endsWith(end));
  const ids = [...new Set(peers.filter(matches).map((p) => p.peer))];
  if (ids.length === 1) return ids[0]!;
  if (ids.length === 0) {
    // A former node is not in the list, but the coordinator may still have its receipts.
    if (text.startsWith('12D3KooW')) return text;
    throw cliError(
      'PEER_NOT_FOUND',
      `no node has the name "${text}" or a peer id that ends with it`,
      {},
      { next: 'list the nodes with "swarm peers"' },
    );
  }
  throw usageError(`"${text}" matches ${ids.length} nodes: ${ids.join(', ')}`, 'give the whole peer id');
}
