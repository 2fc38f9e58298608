import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { MultiaddrConnection } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { gate } from '../../../../net/libp2p/gate.ts';
import { InboundHandshakes } from '../../../../net/libp2p/inbound-handshakes.ts';
import { InboundSlices } from '../../../../net/libp2p/inbound-slices.ts';
import { networkOf, networkOfIp } from '../../../../net/libp2p/remote-network.ts';
import { Traffic } from '../../../../net/libp2p/traffic.ts';
import { noMeter, type Refusal } from '../../../../net/meter.ts';
import { Shares } from '../../../../net/shares.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const RELAY = `12D3KooW${'A'.repeat(44)}`;
const key = (address: string): string => networkOf(multiaddr(address));

/** Makes a connection gate, and a function `arrive` that simulates an incoming socket. */
function hostGate() {
  const refusals: Refusal[] = [];
  const meter = { ...noMeter, refusal: (refusal: Refusal) => void refusals.push(refusal) };
  const clock = new ManualClock();
  const shares = new Shares({ meter });
  const traffic = new Traffic();
  const handshakes = new InboundHandshakes({ shares, clock, meter });
  const gater = gate({ traffic, shares, handshakes, slices: new InboundSlices({ shares, clock }) });
  const arrive = (remoteAddress: string | undefined) => {
    const socket = Object.assign(new EventEmitter(), {
      remoteAddress,
      bytesRead: 0,
      destroyed: false,
      resetAndDestroy: () => {
        socket.destroyed = true;
        socket.emit('close');
      },
    });
    const accepted = handshakes.begin(socket as unknown as Socket);
    const upgrade = (peer: string, status = 'open') => {
      const remoteAddr = multiaddr(
        `/${remoteAddress!.includes(':') ? 'ip6' : 'ip4'}/${remoteAddress}/tcp/4001`,
      );
      const close = (): void => void connection.dispatchEvent(new Event('close'));
      const connection = Object.assign(new EventTarget(), { remoteAddr, status, socket, abort: close });
      const denied = gater.denyInboundUpgradedConnection!(
        peer as never,
        connection as unknown as MultiaddrConnection,
      );
      return { denied, close };
    };
    return { accepted, socket, upgrade };
  };
  return { arrive, clock, shares, refusals, traffic, gater };
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
  expect(networkOfIp('::ffff:192.0.2.1')).toBe(networkOfIp('192.0.2.1'));
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
  const burst = (address: string): number =>
    Array.from({ length: 30 }, () => arrive(address).accepted).filter(Boolean).length;
  expect(burst('192.0.2.1')).toBe(20);
  expect(burst('192.0.2.2')).toBe(20);
  for (const address of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])
    expect(burst(address)).toBe(30);
  expect(refusals).toEqual(Array(20).fill({ queue: 'handshakes', reason: 'rate' }));
  clock.advance(100);
  expect(burst('192.0.2.1')).toBe(2);
});

it('moves a connection from the handshakes to the open ones, and forgets it when it closes', () => {
  const { arrive, shares } = hostGate();
  const { upgrade } = arrive('192.0.2.1');
  expect([shares.handshakes.size, shares.connections.size]).toEqual([1, 0]);
  const { denied, close } = upgrade('a');
  expect(denied).toBe(false);
  expect([shares.handshakes.size, shares.connections.size]).toEqual([0, 1]);
  close();
  expect(shares.connections.size).toBe(0);
});

it('ends a handshake that receives nothing for 3 s, and not one that makes progress', () => {
  const { arrive, clock, refusals, shares } = hostGate();
  const stalled = arrive('192.0.2.1');
  const slow = arrive('192.0.2.2');
  const done = arrive('192.0.2.3');
  done.upgrade('a');
  for (let i = 0; i < 3; i++) {
    slow.socket.bytesRead++;
    clock.advance(3000);
  }
  expect(stalled.socket.destroyed).toBe(true);
  expect(slow.socket.destroyed).toBe(false);
  expect(done.socket.destroyed).toBe(false);
  expect(refusals).toEqual([{ queue: 'handshakes', reason: 'stalled' }]);
  expect(shares.handshakes.size).toBe(1);
});

it('does not count sockets and connections that are already closed', () => {
  const { arrive, shares } = hostGate();
  expect(arrive(undefined).accepted).toBe(false);
  expect(arrive('192.0.2.2').upgrade('a', 'closed').denied).toBe(true);
  expect([shares.handshakes.size, shares.connections.size]).toEqual([0, 0]);
});

it('shares 1,280 connections between addresses, and reserves most of them for known peers', () => {
  const { arrive, shares } = hostGate();
  const connect = (address: string, peer: string): boolean => {
    const { upgrade, socket } = arrive(address);
    const { denied } = upgrade(peer);
    socket.emit('close');
    return !denied;
  };
  for (let i = 0; i < 2000; i++) connect(`127.0.0.${2 + (i % 16)}`, `attacker ${i}`);
  expect(shares.connections.size).toBe(1280);
  expect(connect('127.0.0.1', 'newcomer')).toBe(true);
  shares.isKnown = (peer) => peer.startsWith('member');
  for (let i = 0; i < 1024; i++) expect(connect('127.0.0.1', `member ${i}`)).toBe(true);
  expect(connect('127.0.0.1', 'another newcomer')).toBe(true);
  expect(shares.connections.size).toBe(1280);
});

it('accepts a connection without a socket, and does not count its bytes', () => {
  const { gater, traffic } = hostGate();
  const connection = { remoteAddr: multiaddr('/ip4/192.0.2.1/tcp/1/p2p-circuit') };
  const peer = { type: 'Ed25519' };
  expect(gater.denyInboundEncryptedConnection!(peer as never, connection as never)).toBe(false);
  expect(connection).not.toHaveProperty('sendData');
  expect(traffic.total()).toEqual({ sent: 0, received: 0 });
});
