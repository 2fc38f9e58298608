/**
 * A limit on open connections per remote address. libp2p 3.3.11 limits new connections per second and host
 * (`inboundConnectionThreshold`) and open connections in total (`maxConnections`), but not open connections per host,
 * so one host could take them all. With a `maxConnectionsPerHost` in libp2p's connection manager, this file would not
 * be needed.
 */

import type { MultiaddrConnection } from '@libp2p/interface';
import { CODE_P2P_CIRCUIT, type Multiaddr } from '@multiformats/multiaddr';

/** The first groups of an IPv6 address, 64 bits, name its network. A host usually has all addresses of its network. */
const NETWORK_GROUPS = 4;
const GROUPS = 8;

/**
 * Counts the open inbound connections per remote address. An IPv6 network of 64 bits counts as one address. Connections
 * over a relay count for the relay's address, but separately from the relay's direct connections. Connections over
 * loopback do not count, because whole swarms may run on one machine.
 */
export class AddressLimit {
  readonly #most: number;
  readonly #open = new Map<string, number>();

  constructor({ most }: { most: number }) {
    this.#most = most;
  }

  /** Returns whether an inbound connection may be accepted. If so, the connection counts until it closes. */
  admits(connection: MultiaddrConnection): boolean {
    const from = networkOf(connection.remoteAddr);
    // A connection that is already closed emits no 'close', so it must not be counted.
    if (from === null || connection.status !== 'open') return true;
    const open = this.#open.get(from) ?? 0;
    if (open >= this.#most) return false;
    this.#open.set(from, open + 1);
    const onClose = (): void => {
      const left = this.#open.get(from)! - 1;
      if (left === 0) this.#open.delete(from);
      else this.#open.set(from, left);
    };
    connection.addEventListener('close', onClose, { once: true });
    return true;
  }
}

/** Returns the key that a remote address is counted under; null for loopback and for addresses that are not IP. */
function networkOf(address: Multiaddr): string | null {
  const components = address.getComponents();
  const { name, value = '' } = components.find(({ name }) => name === 'ip4' || name === 'ip6') ?? {};
  const network = name === 'ip4' ? ip4Network(value) : name === 'ip6' ? ip6Network(value) : null;
  const isRelayed = components.some(({ code }) => code === CODE_P2P_CIRCUIT);
  return isRelayed && network !== null ? `relay ${network}` : network;
}

/** An IPv4 address in IPv6 notation, as a listener on `::` can get it, in the form that multiaddr gives it. */
const MAPPED_IP4 = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;

function ip4Network(address: string): string | null {
  return address.startsWith('127.') ? null : address;
}

function ip6Network(address: string): string | null {
  if (address === '::1') return null;
  const mapped = MAPPED_IP4.exec(address);
  if (mapped) {
    const hex = mapped.slice(1).map((group) => group.padStart(4, '0'));
    return ip4Network(Buffer.from(hex.join(''), 'hex').join('.'));
  }
  const [before = [], after] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : GROUPS - before.length - after.length;
  return [...before, ...Array<string>(zeros).fill('0'), ...(after ?? [])].slice(0, NETWORK_GROUPS).join(':');
}
