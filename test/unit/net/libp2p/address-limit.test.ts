import type { MultiaddrConnection } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { AddressLimit } from '../../../../net/libp2p/address-limit.ts';
import { gate, Traffic } from '../../../../net/libp2p/traffic.ts';

const RELAY = `12D3KooW${'A'.repeat(44)}`;

/** A gate that accepts two connections from each address. */
function hostGate() {
  const { denyInboundConnection } = gate({
    traffic: new Traffic(),
    addresses: new AddressLimit({ most: 2 }),
  });
  return (address: string, { port = 4001, relayed = false, status = 'open' } = {}) => {
    const remoteAddr = multiaddr(`${address}/tcp/${port}${relayed ? `/p2p/${RELAY}/p2p-circuit` : ''}`);
    const connection = Object.assign(new EventTarget(), { remoteAddr, status });
    const denied = denyInboundConnection!(connection as unknown as MultiaddrConnection);
    return { denied, close: () => connection.dispatchEvent(new Event('close')) };
  };
}

it('limits the open connections of one address', () => {
  const from = hostGate();
  const first = from('/ip4/192.0.2.1', { port: 1 });
  expect(first.denied).toBe(false);
  expect(from('/ip4/192.0.2.1', { port: 2 }).denied).toBe(false);
  expect(from('/ip4/192.0.2.1', { port: 3 }).denied).toBe(true);
  expect(from('/ip4/192.0.2.2').denied).toBe(false);
  first.close();
  expect(from('/ip4/192.0.2.1', { port: 4 }).denied).toBe(false);
  expect(from('/ip4/192.0.2.1', { port: 5 }).denied).toBe(true);
});

it('counts an IPv6 network of 64 bits as one address, in any notation', () => {
  const from = hostGate();
  expect(from('/ip6/2001:db8::1').denied).toBe(false);
  expect(from('/ip6/2001:db8:0:0:1:2:3:4').denied).toBe(false);
  expect(from('/ip6/2001:db8::ffff:0:1').denied).toBe(true);
  expect(from('/ip6/2001:db8:0:1::1').denied).toBe(false);
});

it('counts an IPv4 address in IPv6 notation as the IPv4 address', () => {
  const from = hostGate();
  expect(from('/ip6/::ffff:192.0.2.1').denied).toBe(false);
  expect(from('/ip4/192.0.2.1').denied).toBe(false);
  expect(from('/ip6/::ffff:c000:201').denied).toBe(true);
  expect(from('/ip6/::ffff:192.0.2.2').denied).toBe(false);
});

it.each(['/ip4/127.0.0.1', '/ip4/127.8.9.10', '/ip6/::1', '/ip6/::ffff:127.0.0.1'])(
  'does not limit loopback: %s',
  (address) => {
    const from = hostGate();
    for (let i = 1; i <= 10; i++) expect(from(address, { port: i }).denied).toBe(false);
  },
);

it('limits relayed connections per relay, apart from direct connections of the relay', () => {
  const from = hostGate();
  const relayed = (address: string) => from(address, { relayed: true });
  const first = relayed('/ip4/192.0.2.1');
  expect(first.denied).toBe(false);
  expect(relayed('/ip4/192.0.2.1').denied).toBe(false);
  expect(relayed('/ip4/192.0.2.1').denied).toBe(true);
  expect(relayed('/ip4/192.0.2.2').denied).toBe(false);
  expect(from('/ip4/192.0.2.1').denied).toBe(false);
  first.close();
  expect(relayed('/ip4/192.0.2.1').denied).toBe(false);
});

it('does not count a connection that is already closed', () => {
  const from = hostGate();
  for (let i = 0; i < 5; i++) expect(from('/ip4/192.0.2.1', { status: 'closed' }).denied).toBe(false);
  expect(from('/ip4/192.0.2.1').denied).toBe(false);
});

it('accepts a connection without a socket, and does not count its bytes', async () => {
  const traffic = new Traffic();
  const { denyInboundEncryptedConnection } = gate({ traffic, addresses: new AddressLimit({ most: 2 }) });
  const connection = { remoteAddr: multiaddr('/ip4/192.0.2.1/tcp/1/p2p-circuit') };
  const peer = { type: 'Ed25519' };
  expect(denyInboundEncryptedConnection!(peer as never, connection as never)).toBe(false);
  expect(connection).not.toHaveProperty('sendData');
  expect(traffic.total()).toEqual({ sent: 0, received: 0 });
});
