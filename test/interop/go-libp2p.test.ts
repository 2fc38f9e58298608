import { randomBytes } from 'node:crypto';
import { encryptHead } from '../../protocol/access/job-key.ts';
import { SealingKey } from '../../protocol/access/sealing.ts';
import { prepareGoLibp2p } from './foreign-peer.ts';
import { testGossipBothWays } from './gossip-both-ways.ts';

const job = 'ab'.repeat(32);
const sealing = new SealingKey(randomBytes(32));
const key = { id: 70_000, key: randomBytes(32) };
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

testGossipBothWays('go-libp2p with go-libp2p-pubsub', prepareGoLibp2p, {
  arguments: [job, hex(sealing.publicKey), String(key.id), hex(key.key)],
  encrypt: (head) => encryptHead(head, job, key, randomBytes(12)),
  decrypt: (update, author) => sealing.open(update, { kind: 'update', job, author }),
});
