/** Messages that attackers send in the benchmark of attacks. */
import { RPC } from '@libp2p/gossipsub/message';
import { base58btc } from 'multiformats/bases/base58';
import { jobTopic } from '../../protocol/job/topics.ts';
import type { Heartbeat, Update } from '../../protocol/messages.ts';
import { type Signer, signerFromSeed, signMessage } from '../../protocol/signing.ts';

function stranger(number: number): Signer {
  const seed = Buffer.alloc(32, 0x3c);
  seed.writeUInt32LE(number);
  return signerFromSeed(seed);
}

/** Returns frames of gossip messages. Each message is a heartbeat that a different stranger has signed. */
export function heartbeats(job: string, count: number): Uint8Array[] {
  return signedFrames(jobTopic(job, 'peers'), count, (signer) => {
    const idle = { round: 0, step: 0, steps: 0, tokensPerSecond: 0, bytesSent: 0, bytesReceived: 0 };
    const about = {
      name: 'stranger',
      agent: 'a',
      engine: 'e',
      state: 'awaiting',
      issuedAt: Date.now(),
    } as const;
    return signMessage('heartbeat', { job, ...about, ...idle } satisfies Heartbeat, signer);
  });
}

/** Returns frames of gossip messages. Each message is an update that a different stranger has signed. */
export function updates(job: string, count: number): Uint8Array[] {
  return signedFrames(jobTopic(job, 'updates'), count, (signer) => {
    const place = {
      term: 1,
      round: 1,
      parent: 'ab'.repeat(32),
      preset: 'balanced',
      start: 0,
      end: 1,
    } as const;
    const figures = { steps: 1, tokens: 1, seconds: 1, lossFirst: 1, lossLast: 1 };
    const payload = { payload: { digest: 'cd'.repeat(32), size: 100 }, inline: null };
    return signMessage('update', { job, ...place, ...figures, ...payload } satisfies Update, signer);
  });
}

/** Makes frames of 100 gossip messages. Each message has a valid signature of a different identity. */
function signedFrames(topic: string, count: number, sign: (signer: Signer) => Uint8Array): Uint8Array[] {
  const messages = Array.from({ length: count }, (_, i) => {
    const signer = stranger(i);
    const seqno = Buffer.alloc(8);
    seqno.writeUInt32BE(i + 1, 4);
    const from = base58btc.baseDecode(signer.peerId);
    const unsigned = { from, data: sign(signer), seqno: new Uint8Array(seqno), topic };
    const signature = signer.sign(
      Buffer.concat([Buffer.from('libp2p-pubsub:'), RPC.Message.encode(unsigned)]),
    );
    return { ...unsigned, signature: new Uint8Array(signature) };
  });
  const frames: Uint8Array[] = [];
  for (let i = 0; i < count; i += 100) {
    frames.push(framed(RPC.encode({ subscriptions: [], messages: messages.slice(i, i + 100) })));
  }
  return frames;
}

/** Returns a frame: the length of the bytes as an unsigned varint, followed by the bytes. */
export function framed(bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  let left = bytes.byteLength;
  for (; left >= 0x80; left >>>= 7) length.push((left & 0x7f) | 0x80);
  return Buffer.concat([Uint8Array.of(...length, left), bytes]);
}
