import type { PeerDiscovery } from '@libp2p/interface';
import { type MulticastDNSComponents, mdns } from '@libp2p/mdns';
import { sha256 } from '../../protocol/cbor.ts';

/** Hex digits of a coordinator's digest: no two in one building share 64 bits, and a DNS label holds 63 characters. */
const DIGEST_DIGITS = 16;

/**
 * The name under which peers of one coordinator find each other in the local network: a subtype of our service
 * (RFC 6763, 7.1), so that swarms beside each other neither see nor dial each other's peers.
 */
export function serviceOf(coordinator: string): string {
  const label = sha256(Buffer.from(coordinator)).slice(0, DIGEST_DIGITS);
  return `_${label}._sub._lora-swarm._udp.local`;
}

/** Multicast DNS for the peers of each of these coordinators: asks at once and then every 10 s, and answers. */
export function localDiscovery(
  coordinators: readonly string[],
): ((components: MulticastDNSComponents) => PeerDiscovery)[] {
  return [...new Set(coordinators)].map((coordinator) => mdns({ serviceTag: serviceOf(coordinator) }));
}
