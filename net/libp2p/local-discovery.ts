/** Discovery in the local network, by `@libp2p/mdns` 12.0.32 through its public options. */

import type { PeerDiscovery } from '@libp2p/interface';
import { type MulticastDNSComponents, mdns } from '@libp2p/mdns';
import { sha256 } from '../../protocol/cbor.ts';

/**
 * Number of hex digits of the coordinator's digest in the service name. 16 digits hold 64 bits, which is
 * enough for one local network, and fit into a DNS label of 63 characters.
 */
const DIGEST_DIGITS = 16;

/**
 * Returns the mDNS service name of a coordinator's swarm. It is a subtype of our service (RFC 6763, 7.1), so that
 * swarms in the same network do not dial each other's peers.
 */
export function serviceOf(coordinator: string): string {
  const label = sha256(Buffer.from(coordinator)).slice(0, DIGEST_DIGITS);
  return `_${label}._sub._lora-swarm._udp.local`;
}

/**
 * Creates an mDNS service for each coordinator's swarm. Each service queries immediately and then every 10 s,
 * and answers the queries of other peers.
 */
export function localDiscovery(
  coordinators: readonly string[],
): ((components: MulticastDNSComponents) => PeerDiscovery)[] {
  return [...new Set(coordinators)].map((coordinator) => mdns({ serviceTag: serviceOf(coordinator) }));
}
