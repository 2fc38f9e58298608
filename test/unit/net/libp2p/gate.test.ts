import type { MultiaddrConnection } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { gate } from '../../../../net/libp2p/gate.ts';
import { networkOf } from '../../../../net/libp2p/remote-network.ts';
import { Traffic } from '../../../../net/libp2p/traffic.ts';
import { noObserver, type Refusal } from '../../../../net/observer.ts';
import { Shares } from '../../../../net/shares.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const RELAY = `12D3KooW${'A'.repeat(44)}`;
const key = (address: string): string => networkOf(multiaddr(address));

/** A gate, and connections that arrive at it. */
function hostGate() {
  const refusals: Refusal[] = [];
  const observer = { ...noObserver, refusal: (refusal: Refusal) => void refusals.push(refusal) };
  const clock = new ManualClock();
  const shares = new Shares({ observer });
  const traffic = new Traffic();
  const { denyInboundConnection, denyInboundEncryptedConnection, denyInboundUpgradedConnection } = gate({
    traffic,
    shares,
    clock,
    observer,
  });
  const arrive = (address: string, { status = 'open' } = {}) => {
    const socket = Object.assign(new EventTarget(), { bytesRead: 0 });
    const connection = Object.assign(new EventTarget(), {
      remoteAddr: multiaddr(`${address}/tcp/4001`),
      status,
      socket,
      abort: () => {
        connection.status = 'aborted';
        connection.dispatchEvent(new Event('close'));
      },
    });
    const denied = denyInboundConnection!(connection as unknown as MultiaddrConnection);
    const upgrade = (peer: string) =>
      denyInboundUpgradedConnection!(peer as never, connection as unknown as MultiaddrConnection);
    return { denied, connection, socket, upgrade };
  };
  return { arrive, clock, shares, refusals, traffic, denyInboundEncryptedConnection };
}

it('names the network of an address: IPv4 addresses, and IPv6 networks of 64 bits in any notation', () => {
  expect(key('/ip4/192.0.2.1/tcp/1')).toBe(key('/ip4/192.0.2.1/tcp/2'));
  expect(key('/ip4/192.0.2.1/tcp/1')).not.toBe(key('/ip4/192.0.2.2/tcp/1'));
  expect(key('/ip6/2001:db8::1/tcp/1')).toBe(key('/ip6/2001:db8:0:0:1:2:3:4/tcp/1'));
  expect(key('/ip6/2001:db8::1/tcp/1')).toBe(key('/ip6/2001:db8::ffff:0:1/tcp/1'));
  expect(key('/ip6/2001:db8::1/tcp/1')).not.toBe(key('/ip6/2001:db8:0:1::1/tcp/1'));
});

it('names an IPv4 address in IPv6 notation as the IPv4 address', () => {
  expect(key('/ip6/::ffff:192.0.2.1/tcp/1')).toBe(key('/ip4/192.0.2.1/tcp/1'));
  expect(key('/ip6/::ffff:10.0.0.1/tcp/1')).not.toBe(key('/ip6/::ffff:192.0.2.1/tcp/1'));
});

it('names the peers behind a relay together, apart from the direct connections of the relay', () => {
  const relayed = (address: string): string => key(`${address}/tcp/1/p2p/${RELAY}/p2p-circuit`);
  expect(relayed('/ip4/192.0.2.1')).toBe(relayed('/ip4/192.0.2.1'));
  expect(relayed('/ip4/192.0.2.1')).not.toBe(key('/ip4/192.0.2.1/tcp/1'));
  expect(relayed('/ip4/192.0.2.1')).not.toBe(relayed('/ip4/192.0.2.2'));
});

it('limits new connections per second and address, except on loopback', () => {
  const { arrive, clock, refusals } = hostGate();
  const denied = (address: string): boolean => arrive(address).denied as boolean;
  const burst = (address: string): number =>
    Array.from({ length: 30 }, () => denied(address)).filter((isDenied) => !isDenied).length;
  expect(burst('/ip4/192.0.2.1')).toBe(20);
  expect(burst('/ip4/192.0.2.2')).toBe(20);
  expect(burst('/ip4/127.0.0.1')).toBe(30);
  expect(burst('/ip6/::1')).toBe(30);
  expect(refusals).toEqual(Array(20).fill({ queue: 'handshakes', reason: 'rate' }));
  clock.advance(100);
  expect(burst('/ip4/192.0.2.1')).toBe(2);
});

it('moves a connection from the handshakes to the open ones, and forgets it when it closes', () => {
  const { arrive, shares } = hostGate();
  const { connection, upgrade } = arrive('/ip4/192.0.2.1');
  expect([shares.handshakes.size, shares.connections.size]).toEqual([1, 0]);
  expect(upgrade('a')).toBe(false);
  expect([shares.handshakes.size, shares.connections.size]).toEqual([0, 1]);
  connection.abort();
  expect(shares.connections.size).toBe(0);
});

it('ends a handshake that receives nothing for 3 s, and not one that makes progress', () => {
  const { arrive, clock, refusals, shares } = hostGate();
  const stalled = arrive('/ip4/192.0.2.1');
  const slow = arrive('/ip4/192.0.2.2');
  const done = arrive('/ip4/192.0.2.3');
  done.upgrade('a');
  for (let i = 0; i < 3; i++) {
    slow.socket.bytesRead++;
    clock.advance(3000);
  }
  expect(stalled.connection.status).toBe('aborted');
  expect(slow.connection.status).toBe('open');
  expect(done.connection.status).toBe('open');
  expect(refusals).toEqual([{ queue: 'handshakes', reason: 'stalled' }]);
  expect(shares.handshakes.size).toBe(1);
});

it('does not count a connection that is already closed', () => {
  const { arrive, shares } = hostGate();
  const late = arrive('/ip4/192.0.2.2');
  expect(arrive('/ip4/192.0.2.1', { status: 'closed' }).denied).toBe(true);
  late.connection.abort();
  expect(late.upgrade('a')).toBe(true);
  expect([shares.handshakes.size, shares.connections.size]).toEqual([0, 0]);
});

it('accepts a connection without a socket, and does not count its bytes', () => {
  const { denyInboundEncryptedConnection, traffic } = hostGate();
  const connection = { remoteAddr: multiaddr('/ip4/192.0.2.1/tcp/1/p2p-circuit') };
  const peer = { type: 'Ed25519' };
  expect(denyInboundEncryptedConnection!(peer as never, connection as never)).toBe(false);
  expect(connection).not.toHaveProperty('sendData');
  expect(traffic.total()).toEqual({ sent: 0, received: 0 });
});
