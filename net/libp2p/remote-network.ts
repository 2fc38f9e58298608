import { CODE_P2P_CIRCUIT, type Multiaddr } from '@multiformats/multiaddr';

/** The first groups of an IPv6 address, 64 bits, name its network. A host usually has all addresses of its network. */
const NETWORK_GROUPS = 4;
const GROUPS = 8;

/**
 * Returns the key under which a remote address shares with others: the IPv4 address, or the first 64 bits of the IPv6
 * address. All peers behind a relay have the key of the relay, which is not the key of the relay's own connections.
 */
export function networkOf(address: Multiaddr): string {
  const components = address.getComponents();
  const { name, value = '' } = components.find(({ name }) => name === 'ip4' || name === 'ip6') ?? {};
  const network = name === 'ip6' ? ip6Network(value) : value;
  return components.some(({ code }) => code === CODE_P2P_CIRCUIT) ? `relay ${network}` : network;
}

/** An IPv4 address in IPv6 notation, as a listener on `::` can get it, in the form that multiaddr gives it. */
const MAPPED_IP4 = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/;

function ip6Network(address: string): string {
  const mapped = MAPPED_IP4.exec(address);
  if (mapped) {
    const hex = mapped.slice(1).map((group) => group.padStart(4, '0'));
    return Buffer.from(hex.join(''), 'hex').join('.');
  }
  const [before = [], after] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : GROUPS - before.length - after.length;
  return [...before, ...Array<string>(zeros).fill('0'), ...(after ?? [])].slice(0, NETWORK_GROUPS).join(':');
}
