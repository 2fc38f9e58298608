/**
 * Checks of the addresses in the options of a host. The command line also uses these checks on its flags, before it
 * starts a host.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';
import { peerIdSchema } from '../protocol/ids.ts';

const TCP_ADDRESS = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/([^/]+))?$/;
const DNSADDR = /^\/dnsaddr\/([^/]+)(?:\/p2p\/([^/]+))?$/;
const HOST_NAME = /^[\w.-]{1,253}$/;

interface TcpAddress {
  isName: boolean;
  port: number;
  hasPeer: boolean;
}

/** Returns the parts of a TCP multiaddr; null if the text is not a TCP multiaddr. */
function parseTcp(address: string): TcpAddress | null {
  const [, protocol, host = '', digits, peer] = TCP_ADDRESS.exec(address) ?? [];
  const port = Number(digits);
  const isHost =
    protocol === 'ip4'
      ? isIPv4(host)
      : protocol === 'ip6'
        ? // An IPv6 zone, such as %eth0 in fe80::1%eth0, is not valid in a multiaddr.
          isIPv6(host) && !host.includes('%')
        : HOST_NAME.test(host);
  if (protocol === undefined || !isHost || port > 65535 || !isPeerOrAbsent(peer)) return null;
  return { isName: protocol.startsWith('dns'), port, hasPeer: peer !== undefined };
}

function isDnsaddr(address: string): boolean {
  const [, host = '', peer] = DNSADDR.exec(address) ?? [];
  return HOST_NAME.test(host) && isPeerOrAbsent(peer);
}

function isPeerOrAbsent(peer: string | undefined): boolean {
  return peer === undefined || peerIdSchema.safeParse(peer).success;
}

/** An address to listen on: an IP address of this machine and a TCP port. */
export const listenAddressSchema = z.string().refine((address) => {
  const tcp = parseTcp(address);
  return tcp !== null && !tcp.isName && !tcp.hasPeer;
}, 'must be a multiaddr such as /ip4/0.0.0.0/tcp/4040; port 0 means any free port');

/** An address to announce. libp2p appends the host's own peer id, so the address must not end in one. */
export const announcedAddressSchema = z.string().refine((address) => {
  const tcp = parseTcp(address);
  return tcp !== null && tcp.port > 0 && !tcp.hasPeer;
}, 'must be a multiaddr such as /ip4/203.0.113.1/tcp/4040, without /p2p');

/** An address to stay connected to. It may end in the peer id of the peer at that address. */
export const bootstrapAddressSchema = z.string().refine((address) => {
  const tcp = parseTcp(address);
  return tcp === null ? isDnsaddr(address) : tcp.port > 0;
}, 'must be a multiaddr such as /ip4/203.0.113.1/tcp/4040/p2p/PEER, as daemons print it');

/** The options of a host that hold addresses. */
export const hostAddressesSchema = z.object({
  listen: z.array(listenAddressSchema),
  announce: z.array(announcedAddressSchema).optional(),
  bootstrap: z.array(bootstrapAddressSchema),
});
