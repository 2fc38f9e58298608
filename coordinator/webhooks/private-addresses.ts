import { BlockList, isIP } from 'node:net';

/** Networks that are not part of the public internet (RFC 6890, RFC 4291). */
const PRIVATE: readonly (readonly [address: string, prefix: number, family: 'ipv4' | 'ipv6'])[] = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['224.0.0.0', 3, 'ipv4'],
  ['::', 128, 'ipv6'],
  ['::1', 128, 'ipv6'],
  // Addresses in the next two networks stand for IPv4 addresses, which may be private. So they all count as
  // private.
  ['64:ff9b::', 32, 'ipv6'],
  ['2002::', 16, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
];

const list = new BlockList();
for (const [address, prefix, family] of PRIVATE) list.addSubnet(address, prefix, family);

/** Returns whether an IP address belongs to this machine or to a private network. */
export function isPrivateAddress(address: string): boolean {
  // BlockList compares IPv6 addresses that contain an IPv4 address (::ffff:10.0.0.1) with the rules for IPv4.
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
