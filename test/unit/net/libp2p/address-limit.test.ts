import { EventEmitter } from 'node:events';
import type { MultiaddrConnection } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, test } from 'vitest';
import { AddressLimit } from '../../../../net/libp2p/address-limit.ts';
import { gate, Traffic } from '../../../../net/libp2p/traffic.ts';

/** A host's gate that lets two connections in from one address. */
function hostGate() {
  const { denyInboundConnection } = gate({
    traffic: new Traffic(),
    addresses: new AddressLimit({ most: 2 }),
  });
  return (address: string, port = 4001) => {
    const socket = Object.assign(new EventEmitter(), { destroyed: false });
    const connection = { remoteAddr: multiaddr(`${address}/tcp/${port}`), socket };
    const denied = denyInboundConnection!(connection as unknown as MultiaddrConnection);
    return { denied, close: () => socket.emit('close') };
  };
}

test('one address cannot take all connections of a host; others, and what closes, make no odds', () => {
  const from = hostGate();
  const first = from('/ip4/192.0.2.1', 1);
  expect(first.denied).toBe(false);
  expect(from('/ip4/192.0.2.1', 2).denied).toBe(false);
  expect(from('/ip4/192.0.2.1', 3).denied).toBe(true);
  expect(from('/ip4/192.0.2.2').denied).toBe(false);
  first.close();
  expect(from('/ip4/192.0.2.1', 4).denied).toBe(false);
  expect(from('/ip4/192.0.2.1', 5).denied).toBe(true);
});

test('an IPv6 network is one address, however it is written', () => {
  const from = hostGate();
  expect(from('/ip6/2001:db8::1').denied).toBe(false);
  expect(from('/ip6/2001:db8:0:0:1:2:3:4').denied).toBe(false);
  expect(from('/ip6/2001:db8::ffff:0:1').denied).toBe(true);
  expect(from('/ip6/2001:db8:0:1::1').denied).toBe(false);
});

test.each(['/ip4/127.0.0.1', '/ip6/::1'])('a whole swarm may run on one machine: %s', (address) => {
  const from = hostGate();
  for (let i = 1; i <= 10; i++) expect(from(address, i).denied).toBe(false);
});
