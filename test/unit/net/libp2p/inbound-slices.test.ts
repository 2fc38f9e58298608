import { EventEmitter } from 'node:events';
import type { MultiaddrConnection, PeerId } from '@libp2p/interface';
import { multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { InboundSlices } from '../../../../net/libp2p/inbound-slices.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

/** Milliseconds that the bytes of one arrival take to be processed. */
const WORK_MS = 5;
/** A byte that a connection cannot process. */
const BROKEN = 255;

/** A host whose connections record what they process, and how much of it in one turn of the event loop. */
function host() {
  const clock = new ManualClock();
  const known = new Set<string>();
  const slices = new InboundSlices({ shares: { isKnown: (peer) => known.has(peer) }, clock });
  const processed: string[] = [];
  let turn: string[] = [];
  const turns: string[][] = [];
  let ports = 1;
  const connect = (address: string, peer: string) => {
    const socket = Object.assign(new EventEmitter(), {
      remotePort: ports++,
      paused: false,
      pause: () => {
        socket.paused = true;
      },
      resume: () => {
        socket.paused = false;
      },
    });
    const connection = {
      remoteAddr: multiaddr(`/ip4/${address}/tcp/1`),
      status: 'open',
      readStatus: 'readable',
      socket,
      aborted: undefined as Error | undefined,
      abort: (error: Error) => {
        connection.aborted = error;
      },
      onData: (bytes: Uint8Array) => {
        if (bytes[0] === BROKEN) throw new Error('broken bytes');
        clock.advance(WORK_MS);
        processed.push(peer);
        turn.push(`${peer} ${bytes[0]}`);
      },
    };
    slices.slice(peer as unknown as PeerId, connection as unknown as MultiaddrConnection);
    return connection;
  };
  const nextTurn = async (): Promise<void> => {
    await new Promise(setImmediate);
    turns.push(turn);
    turn = [];
  };
  return { connect, known, processed, turns, nextTurn };
}

const bytes = (number: number): Uint8Array => Uint8Array.of(number);

it('processes what arrives on many connections in slices, and in order on each connection', async () => {
  const { connect, processed, turns, nextTurn } = host();
  const all = Array.from({ length: 100 }, (_, i) => connect('192.0.2.1', `peer ${i}`));
  for (const connection of all) for (const number of [1, 2]) connection.onData(bytes(number));
  expect(processed).toEqual(['peer 0', 'peer 0']);
  expect(all.map(({ socket }) => socket.paused).filter(Boolean)).toHaveLength(99);
  while (processed.length < 200) await nextTurn();
  expect(Math.max(...turns.map(({ length }) => length))).toBeLessThanOrEqual(4);
  for (const peer of ['peer 1', 'peer 99']) {
    expect(turns.flat().filter((entry) => entry.startsWith(`${peer} `))).toEqual([`${peer} 1`, `${peer} 2`]);
  }
  expect(all.some(({ socket }) => socket.paused)).toBe(false);
});

it.each([1, 16])(
  'lets a connection of another address wait for at most one other of each of %i addresses',
  async (addresses) => {
    const { connect, processed, nextTurn } = host();
    const all = Array.from({ length: 500 }, (_, i) =>
      connect(`192.0.2.${1 + (i % addresses)}`, `attacker ${i}`),
    );
    for (const connection of all) connection.onData(bytes(1));
    const before = processed.length;
    connect('198.51.100.1', 'honest').onData(bytes(1));
    while (!processed.includes('honest')) await nextTurn();
    expect(processed.indexOf('honest') - before).toBeLessThanOrEqual(addresses);
  },
);

it('gives every second turn to known peers', async () => {
  const { connect, known, processed, nextTurn } = host();
  for (let i = 0; i < 500; i++) connect(`192.0.2.${1 + (i % 100)}`, `attacker ${i}`).onData(bytes(1));
  const before = processed.length;
  for (const peer of ['known 1', 'known 2', 'known 3']) {
    known.add(peer);
    connect('198.51.100.1', peer).onData(bytes(1));
  }
  while (!processed.includes('known 3')) await nextTurn();
  expect(processed.indexOf('known 3') - before).toBeLessThanOrEqual(6);
});

it('leaves a socket paused that libp2p has paused, and drops a connection whose bytes cannot be processed', async () => {
  const { connect, processed, nextTurn } = host();
  connect('192.0.2.1', 'first').onData(bytes(1));
  connect('192.0.2.1', 'second').onData(bytes(1));
  const paused = connect('192.0.2.2', 'paused');
  paused.onData(bytes(1));
  paused.readStatus = 'paused';
  const broken = connect('192.0.2.3', 'broken');
  broken.onData(bytes(BROKEN));
  while (!processed.includes('paused')) await nextTurn();
  expect(paused.socket.paused).toBe(true);
  while (broken.aborted === undefined) await nextTurn();
  expect(broken.aborted.message).toBe('broken bytes');
});
