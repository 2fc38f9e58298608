import { isIPv4 } from 'node:net';
import { CODE_P2P_CIRCUIT, type Multiaddr } from '@multiformats/multiaddr';

/**
 * Number of groups at the start of an IPv6 address, 64 bits in total, that name its network. A host can
 * usually take any address of its network, so all addresses of a network together have one fair share.
 */
const NETWORK_GROUPS = 4;
const GROUPS = 8;
/**
 * Patterns of an IPv4 address in IPv6 notation. A listener on `::` can report such an address for a peer that
 * connects over IPv4. The IPv4 part is dotted (MAPPED_DOTTED), or consists of two hexadecimal groups, as the
 * package multiaddr writes it (MAPPED_GROUPS).
 */
const MAPPED_DOTTED = /^::ffff:([\d.]+)$/;
const MAPPED_GROUPS = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;

/**
 * Returns the key under which the fair share of a remote address is counted: the network of its IP address. All peers
 * behind a relay have one key, which is not the key of the relay's own connections.
 */
export function networkOf(address: Multiaddr): string {
  const components = address.getComponents();
  const { value = '' } = components.find(({ name }) => name === 'ip4' || name === 'ip6') ?? {};
  const network = networkOfIp(value);
  return components.some(({ code }) => code === CODE_P2P_CIRCUIT) ? `relay ${network}` : network;
}

/**
 * Returns the IP address of a remote address; null for a relayed connection, because its address belongs to the relay.
 */
export function ipOf(address: Multiaddr): string | null {
  const components = address.getComponents();
  const ip = components.find(({ name }) => name === 'ip4' || name === 'ip6')?.value;
  if (ip === undefined || components.some(({ code }) => code === CODE_P2P_CIRCUIT)) return null;
  // Convert an IPv4 address in IPv6 notation to an IPv4 address, because it has to be dialled over IPv4.
  const network = networkOfIp(ip);
  return isIPv4(network) ? network : ip;
}

/** Returns the network of an IP address: the IPv4 address itself, or the first 64 bits of the IPv6 address. */
export function networkOfIp(ip: string): string {
  if (!ip.includes(':')) return ip;
  const dotted = MAPPED_DOTTED.exec(ip)?.[1];
  if (dotted !== undefined) return dotted;
  const mapped = MAPPED_GROUPS.exec(ip);
  if (mapped) {
    const hex = mapped.slice(1).map((group) => group.padStart(4, '0'));
    return Buffer.from(hex.join(''), 'hex').join('.');
  }
  const [before = [], after] = ip.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : GROUPS - before.length - after.length;
  return [...before, ...Array<string>(zeros).fill('0'), ...(after ?? [])].slice(0, NETWORK_GROUPS).join(':');
}
