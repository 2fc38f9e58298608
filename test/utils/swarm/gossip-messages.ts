import { RPC } from '@libp2p/gossipsub/message';
import { base58btc } from 'multiformats/bases/base58';
import { type Signer, signerFromSeed } from '../../../protocol/signing.ts';

const SIGNED_PREFIX = Buffer.from('libp2p-pubsub:');

/** Creates the signer of an identity that no peer knows. */
export function strangerSigner(number: number): Signer {
  const seed = Buffer.alloc(32, 0x5a);
  seed.writeUInt32LE(number);
  return signerFromSeed(seed);
}

/** Signs a gossip message as gossipsub does. */
export function gossipMessage(topic: string, data: Uint8Array, signer: Signer, sequence = 1): RPC.Message {
  const seqno = Buffer.alloc(8);
  seqno.writeBigUInt64BE(BigInt(sequence));
  const unsigned = { from: base58btc.baseDecode(signer.peerId), data, seqno: new Uint8Array(seqno), topic };
  const signature = signer.sign(Buffer.concat([SIGNED_PREFIX, RPC.Message.encode(unsigned)]));
  return { ...unsigned, signature: new Uint8Array(signature) };
}

/** Encodes messages as RPCs, each after its length, as they are on a gossip stream. */
export function gossipFrames(messages: readonly RPC.Message[], perRpc = 100): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let i = 0; i < messages.length; i += perRpc) {
    const rpc = RPC.encode({ subscriptions: [], messages: messages.slice(i, i + perRpc) });
    frames.push(Buffer.concat([varint(rpc.byteLength), rpc]));
  }
  return frames;
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left >>>= 7) bytes.push((left & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, left);
}
