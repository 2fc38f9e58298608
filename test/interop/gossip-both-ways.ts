import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { jobTopic } from '../../protocol/job/topics.ts';
import { eventually, eventuallyHolds } from '../utils/eventually.ts';
import { startHost } from '../utils/swarm/hosts.ts';
import { ForeignPeer, type Prepared } from './foreign-peer.ts';

/** Number of messages. They take two minutes, enough for many gossip heartbeats, IHAVE messages and mesh repairs. */
const MESSAGES = 240;
const PERIOD_MS = 500;
const SIZES = [200, 4_000, 60_000, 200_000];

/** How both peers encrypt their messages. */
export interface Encryption {
  /** Arguments that make the program of the other implementation use the same encryption. */
  readonly arguments: readonly string[];
  /** Encrypts a message to the other peer. */
  encrypt(content: Uint8Array): Uint8Array;
  /** Decrypts a message of the other peer. */
  decrypt(message: Uint8Array, author: string): Uint8Array;
}

const plain: Encryption = { arguments: [], encrypt: (content) => content, decrypt: (message) => message };

const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** Gossips with another implementation for two minutes, both ways, and compares what each side heard. */
export function testGossipBothWays(
  implementation: string,
  prepare: () => Promise<Prepared>,
  encryption = plain,
): void {
  test(`gossip with ${implementation}, two minutes both ways`, { timeout: 900_000 }, async ({ skip }) => {
    const peer = await prepare();
    if ('missing' in peer) return skip(`${implementation}: ${peer.missing}`);

    const host = await startHost();
    const topic = jobTopic(sha256(Buffer.from(implementation)), 'updates');
    const heard: string[] = [];
    host.network.subscribe(topic, ({ from, data }) => {
      heard.push(sha256(encryption.decrypt(data, from)));
      return 'accept';
    });
    const counts = [String(MESSAGES), String(PERIOD_MS)];
    const options = [host.network.addresses()[0]!, topic, ...counts, ...encryption.arguments];
    const foreign = new ForeignPeer(peer.command, [...peer.args, ...options]);
    await foreign.first('connected');
    // A message can reach the other peer only after the subscription of that peer has arrived here.
    const hello = Buffer.from('hello');
    await eventually(async () => (await host.network.publish(topic, encryption.encrypt(hello))) > 0, {
      what: 'the subscription of the other peer',
    });
    await eventually(() => foreign.digests('heard').includes(sha256(hello)));
    foreign.start();

    const published: string[] = [];
    for (let i = 0; i < MESSAGES; i++) {
      const data = Buffer.alloc(SIZES[i % SIZES.length]!, `our message ${i} `);
      await host.network.publish(topic, encryption.encrypt(data));
      published.push(sha256(data));
      await pause(PERIOD_MS);
    }
    await foreign.first('done');
    const theirs = foreign.digests('published');
    expect(theirs).toHaveLength(MESSAGES);

    // Each message arrives exactly once.
    const theyHeard = (): string[] => foreign.digests('heard').filter((digest) => published.includes(digest));
    await eventuallyHolds(() => {
      expect(heard.toSorted()).toEqual(theirs.toSorted());
      expect(theyHeard().toSorted()).toEqual(published.toSorted());
    });
    expect(foreign.reports.filter(({ event }) => event === 'disconnected')).toEqual([]);
  });
}
