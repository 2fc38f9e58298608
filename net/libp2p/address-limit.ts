import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';

/** Groups of an IPv6 address that its network has: whoever has one address there has all of them. */
const NETWORK_GROUPS = 4;
const GROUPS = 8;

/**
 * Counts the open connections that came from each address, so that no address can take all of a host's. For IPv6 an
 * address is a network of 64 bits. Loopback is this machine, on which whole swarms may run, and is not counted.
 */
export class AddressLimit {
  readonly #most: number;
  readonly #open = new Map<string, number>();

  constructor({ most }: { most: number }) {
    this.#most = most;
  }

  /** Whether a connection may come in; from then on it is counted until its socket closes. */
  admits(connection: MultiaddrConnection): boolean {
    const from = networkOf(connection.remoteAddr);
    const { socket } = connection as unknown as { socket: Socket };
    // One that has closed meanwhile tells of it no more.
    if (from === null || socket.destroyed) return true;
    const open = this.#open.get(from) ?? 0;
    if (open >= this.#most) return false;
    this.#open.set(from, open + 1);
    socket.once('close', () => {
      const left = this.#open.get(from)! - 1;
      if (left === 0) this.#open.delete(from);
      else this.#open.set(from, left);
    });
    return true;
  }
}

/** null for loopback, and for what is no address of the internet. */
function networkOf(address: Multiaddr): string | null {
  const { name, value = '' } =
    address.getComponents().find(({ name }) => name === 'ip4' || name === 'ip6') ?? {};
  if (name === 'ip4') return value === '127.0.0.1' ? null : value;
  if (name !== 'ip6' || value === '::1') return null;
  const [before = [], after] = value.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : GROUPS - before.length - after.length;
  return [...before, ...Array<string>(zeros).fill('0'), ...(after ?? [])].slice(0, NETWORK_GROUPS).join(':');
}
