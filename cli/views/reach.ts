import { formatDuration } from '../../common/text.ts';
import type { AddressReach, ReachResult } from '../../index.ts';
import { shortPeer } from '../../protocol/ids.ts';

/** Why a dial failed, in a few words. */
const FAILURES: Readonly<Record<Exclude<ReachResult, 'reached'>, string>> = {
  refused: 'connection refused',
  timeout: 'no answer',
  unroutable: 'no route to the address',
  'other-peer': 'a different peer answers',
  'hung-up': 'the connection was closed',
  failed: 'the connection failed',
};

/** Returns the addresses of a daemon, one per line. */
export function addressLines(addresses: readonly string[]): string[] {
  return addresses.map((address, i) => `${i === 0 ? 'addresses  ' : '           '} ${address}`);
}

/** Returns the addresses of a daemon, one per line. Each line says whether another peer has reached the address. */
export function reachLines(reach: readonly AddressReach[]): string[] {
  return addressLines(reach.map((one) => [one.address, reachText(one)].filter(Boolean).join('  ')));
}

/** Says whether a peer has reached an address. Empty for an address in a local network that no peer has dialled. */
export function reachText({ announced, reach, check }: AddressReach): string {
  const own = announced ? '' : 'not announced; ';
  if (check === null) return reach === 'internet' ? `${own}no peer has dialled it yet` : '';
  const { result, peer, from, secondsAgo } = check;
  const by = `from ${from === 'this machine' ? from : `the ${from}`}`;
  const when = `by ${shortPeer(peer)} ${formatDuration(secondsAgo)} ago`;
  if (result === 'reached') return `${own}reached ${by}, ${when}`;
  return `${own}not reached ${by}: ${FAILURES[result]}, ${when}`;
}

/** Returns why a dial failed, in a few words; null if it did not fail. */
export function failureText(result: ReachResult): string | null {
  return result === 'reached' ? null : FAILURES[result];
}
