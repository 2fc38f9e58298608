import { parseAddress } from '../../net/addresses.ts';

/**
 * Returns the option `confidants` of the host. It lists the coordinators, so that the host sends this node's updates and
 * heartbeats to no other peer. If an address lacks a peer id, the list would be incomplete, and the option is left out.
 */
export function confidantsAt(addresses: readonly string[]): { confidants?: string[] } {
  const confidants = coordinatorsAt(addresses);
  return confidants.length === addresses.length ? { confidants } : {};
}

/** Returns the peer ids in the addresses. */
export function coordinatorsAt(addresses: readonly string[]): string[] {
  return addresses.map((address) => parseAddress(address).peer).filter((peer) => peer !== null);
}
