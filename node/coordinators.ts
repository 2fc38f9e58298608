import { parseAddress } from '../net/addresses.ts';

/**
 * Returns the option `confidants` of the host: the coordinators, as the only peers to which the host sends this node's
 * updates and heartbeats. If an address lacks a peer id, returns no such option, because the list would be incomplete.
 */
export function confidantsAt(addresses: readonly string[]): { confidants?: string[] } {
  const confidants = coordinatorsAt(addresses);
  return confidants.length === addresses.length ? { confidants } : {};
}

/** Returns the peer ids in the addresses. */
export function coordinatorsAt(addresses: readonly string[]): string[] {
  return addresses.map((address) => parseAddress(address).peer).filter((peer) => peer !== null);
}
