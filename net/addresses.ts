import { isLoopback, isPrivate } from '@libp2p/utils';
import { CODE_P2P, CODE_TCP, type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { isSwarmError, type SwarmError } from '../common/errors.ts';
import type { Reach } from '../protocol/api/reach.ts';
import { DIAL_TIMEOUT_MS } from '../protocol/limits.ts';
import { netError } from './errors.ts';

/** Parses a multiaddr and the peer id at its end, if any. @throws SwarmError CONNECT_FAILED */
export function parseAddress(address: string): { multiaddr: Multiaddr; peer: string | null } {
  try {
    const parsed = multiaddr(address);
    const peer = parsed.getComponents().findLast(({ code }) => code === CODE_P2P)?.value ?? null;
    return { multiaddr: parsed, peer };
  } catch (cause) {
    throw netError(
      'CONNECT_FAILED',
      `"${address.slice(0, 200)}" is not a multiaddr`,
      { address, reason: 'malformed' },
      { kind: 'usage', next: 'use an address such as /ip4/192.0.2.1/tcp/4001 or .../p2p/12D3KooW...', cause },
    );
  }
}

/**
 * Returns a warning if all addresses are private (loopback, local networks, carrier-grade NAT), so that peers in other
 * networks, or on other machines, cannot connect; null otherwise. Host names count as public. The value `reach` of the
 * warning says from where peers can connect.
 */
export function privateAddressesWarning(addresses: readonly string[]): SwarmError | null {
  if (!addresses.every((address) => isPrivate(multiaddr(address)))) return null;
  const announce = 'give the public address of your router with --announce';
  // Other machines can already connect to a coordinator with an address in a local network. It needs only --announce.
  const isLocal = addresses.some((address) => reachOf(address) === 'local network');
  const reach: Reach = isLocal ? 'local network' : 'this machine';
  const others = isLocal ? 'in other networks' : 'on other machines';
  const listen = `start the coordinator with --listen /ip4/0.0.0.0/tcp/PORT; behind a router, also ${announce}`;
  // The peer id at the end of each address is that of this machine. It would only make the line long.
  const places = addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
  return netError(
    'ADDRESSES_PRIVATE',
    `peers ${others} cannot connect, because all addresses are ${isLocal ? 'private' : 'only on this machine'} (${places.join(', ') || 'none'})`,
    { addresses, reach },
    { next: `to let peers ${others} connect, ${isLocal ? announce : listen}` },
  );
}

/** Returns which machines can connect to an address: "this machine", "local network" or "internet". */
export function reachOf(address: string): Reach {
  const parsed = multiaddr(address);
  if (isLoopback(parsed)) return 'this machine';
  return isPrivate(parsed) ? 'local network' : 'internet';
}

/** Returns the host and the TCP port of an address; port 0 if it has no TCP port. */
export function ipAndPort(address: string): { host: string; isName: boolean; port: number } {
  const components = multiaddr(address).getComponents();
  const { name = '', value: host = '' } = components.find(({ name }) => HOST_PARTS.has(name)) ?? {};
  const port = Number(components.find(({ code }) => code === CODE_TCP)?.value ?? 0);
  return { host, isName: name.startsWith('dns'), port };
}

/** Names of the components of a multiaddr that hold a host. */
const HOST_PARTS: ReadonlySet<string> = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6']);

/** All values of Reach, the greatest distance first. */
export const farthestFirst: readonly Reach[] = ['internet', 'local network', 'this machine'];

/** Sorts addresses by reach: public addresses, then addresses of local networks, then loopback addresses. */
export function sortByReach(addresses: readonly string[]): string[] {
  const rank = (address: string): number => farthestFirst.indexOf(reachOf(address));
  return addresses.toSorted((a, b) => rank(a) - rank(b));
}

/** Explanations of a failed dial. `pattern` matches the error of libp2p or of the system. */
const failures: readonly { pattern: RegExp; reason: string; text: string; next: string }[] = [
  {
    pattern: /ECONNREFUSED/,
    reason: 'refused',
    text: 'connection refused',
    next: 'check that the other peer is running, and check its port',
  },
  {
    pattern: /ENOTFOUND|EAI_AGAIN|DNS/i,
    reason: 'unresolved',
    text: 'unknown host name',
    next: 'check the spelling of the host name and your DNS settings',
  },
  {
    pattern: /EHOSTUNREACH|ENETUNREACH|ENETDOWN/,
    reason: 'unroutable',
    text: 'no route to that address',
    next: 'check the address and your network',
  },
  {
    pattern: /UnexpectedPeer|does not match expected|payload identity key/i,
    reason: 'other-peer',
    // A node shows only this text while it tries again, and no attempt will succeed.
    text: 'a different peer answers at that address, so check the invite or the address',
    next: 'ask for a new address or invite, because the peer id at the end of this one is out of date',
  },
  {
    pattern: /dial self/i,
    reason: 'self',
    text: 'this is an address of this peer itself',
    next: 'use the address of another peer',
  },
  {
    pattern: /ECONNRESET|closed|reset|EncryptionFailed|denied/i,
    reason: 'hung-up',
    text: 'the other side closed the connection',
    next: 'check that a lora-swarm peer listens there; it may have reached its limit of connections, in total or per network',
  },
  {
    pattern: /No transport|could not be dialed|no valid addresses/i,
    reason: 'unsupported',
    text: 'the address is not a TCP address',
    next: 'use an address with /tcp/',
  },
];

/** Converts the error of a failed dial to CONNECT_FAILED, which names the address, the cause, and what to check. */
export function connectError(address: string, cause: unknown): SwarmError {
  if (isSwarmError(cause, 'CONNECT_FAILED')) return cause;
  const description = describe(cause);
  const symptom = description.replace(NAMES, '');
  const timedOut = isSwarmError(cause, 'DEADLINE_EXCEEDED') || /timeout|timed out/i.test(symptom);
  const { reason, text, next } = timedOut
    ? {
        reason: 'timeout',
        text: `no answer within ${DIAL_TIMEOUT_MS / 1000} s`,
        next: 'check the address, the firewall and port forwarding',
      }
    : (failures.find(({ pattern }) => pattern.test(symptom)) ?? {
        reason: 'unknown',
        text: description,
        next: undefined,
      });
  return netError(
    'CONNECT_FAILED',
    `could not connect to ${address}: ${text}`,
    { address, reason, cause: description },
    { next, cause },
  );
}

/**
 * Matches peer ids and multiaddrs. They are removed from an error text before the patterns of `failures` are tried,
 * because their random letters can match a pattern: one in 400 texts with two peer ids contains "dns" in upper or lower
 * case.
 */
const NAMES = /\b[1-9A-HJ-NP-Za-km-z]{40,}\b|\/(?:ip[46]|dns\w*)\/\S+/g;

function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join('; ');
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
