import { decode as decodeAny } from '@ipld/dag-cbor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countItems, decodeCbor, encodeCbor } from '../../../protocol/cbor.ts';
import { peerIdOf, publicKeyOf } from '../../../protocol/ids.ts';
import { INLINE_UPDATE_BYTES } from '../../../protocol/limits.ts';
import { type Heartbeat, messageBytes, messageSchemas, type Update } from '../../../protocol/messages.ts';
import { signerFromSeed, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { codeOf, withCode } from '../../utils/source/codes.ts';

const signer = signerFromSeed(new Uint8Array(32).fill(7));
const stranger = signerFromSeed(new Uint8Array(32).fill(8));
const digest = 'ab'.repeat(32);

const heartbeat: Heartbeat = {
  job: digest,
  name: 'brave-otter',
  agent: 'lora-swarm/0.1.0',
  state: 'training',
  round: 3,
  step: 4,
  steps: 20,
  tokensPerSecond: 1234.5,
  engine: 'onnx-cpu',
  bytesSent: 10,
  bytesReceived: 20,
  issuedAt: 1_800_000_000_000,
};

const update = (inline: Uint8Array | null): Update => ({
  job: digest,
  term: 1,
  round: 1,
  parent: digest,
  preset: 'balanced',
  start: 0,
  end: 160,
  steps: 20,
  tokens: 20_480,
  seconds: 3.5,
  lossFirst: 4,
  lossLast: 3.5,
  payload: { digest, size: inline?.byteLength ?? 1_000_000 },
  inline,
});

describe('signed messages', () => {
  it('verify to the same message and its author', () => {
    const verified = verifyMessage('heartbeat', signMessage('heartbeat', heartbeat, signer));
    expect(verified.message).toEqual(heartbeat);
    expect(verified.author).toBe(signer.peerId);
  });

  it('have a digest of the body, independent of the author', () => {
    const mine = verifyMessage('heartbeat', signMessage('heartbeat', heartbeat, signer));
    const theirs = verifyMessage('heartbeat', signMessage('heartbeat', heartbeat, stranger));
    expect(mine.digest).toBe(theirs.digest);
    expect(
      verifyMessage('heartbeat', signMessage('heartbeat', { ...heartbeat, step: 5 }, signer)).digest,
    ).not.toBe(mine.digest);
  });

  it('cannot be passed off as a message of another kind', () => {
    const bytes = signMessage('heartbeat', heartbeat, signer);
    expect(() => verifyMessage('receipt', bytes)).toThrow(withCode('MESSAGE_KIND'));
    const relabelled = { ...(decodeAny(bytes) as object), kind: 'receipt' };
    expect(() => verifyMessage('receipt', encodeCbor(relabelled))).toThrow(withCode('SIGNATURE_INVALID'));
  });

  it('cannot be attributed to another author', () => {
    const envelope = decodeAny(signMessage('heartbeat', heartbeat, signer)) as object;
    const forged = encodeCbor({ ...envelope, author: stranger.peerId });
    expect(() => verifyMessage('heartbeat', forged)).toThrow(withCode('SIGNATURE_INVALID'));
  });

  it('are refused if any bit is flipped', () => {
    const bytes = signMessage('heartbeat', heartbeat, signer);
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        const flipped = Uint8Array.from(bytes);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        expect(codeOf(() => verifyMessage('heartbeat', flipped))).toMatch(/^(MESSAGE_|SIGNATURE_|PEER_ID_)/);
      }),
      { numRuns: 300 },
    );
  });

  it('give typed errors for random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        for (const kind of Object.keys(messageSchemas) as (keyof typeof messageSchemas)[]) {
          expect(codeOf(() => verifyMessage(kind, bytes))).toMatch(/^MESSAGE_/);
        }
      }),
    );
  });

  it('are refused before decoding if they are too large', () => {
    expect(() => verifyMessage('heartbeat', new Uint8Array(messageBytes.heartbeat + 513))).toThrow(
      withCode('MESSAGE_TOO_LARGE'),
    );
  });

  it('hold the largest inline update and nothing larger', () => {
    const largest = signMessage('update', update(new Uint8Array(INLINE_UPDATE_BYTES)), signer);
    expect(verifyMessage('update', largest).message.inline?.byteLength).toBe(INLINE_UPDATE_BYTES);
    expect(() => signMessage('update', update(new Uint8Array(INLINE_UPDATE_BYTES + 1)), signer)).toThrow();
  });

  it('hold no unknown field', () => {
    const extra = { ...heartbeat, __proto__: { polluted: true }, surplus: 1 } as unknown as Heartbeat;
    expect(() => signMessage('heartbeat', extra, signer)).toThrow();
  });
});

describe('strict CBOR', () => {
  it('refuses deep nesting and duplicate keys with typed errors', () => {
    const deep = new Uint8Array(200_000).fill(0x81);
    expect(() => decodeCbor(deep, messageSchemas.heartbeat, 1_000_000)).toThrow(
      withCode('MESSAGE_MALFORMED'),
    );
    const duplicate = Uint8Array.of(0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02);
    expect(codeOf(() => decodeCbor(duplicate, messageSchemas.heartbeat, 100))).toMatch(/^MESSAGE_/);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('refuses a message of tiny values before it decodes them', () => {
    const tiny = encodeCbor(Array.from({ length: 200_000 }, () => 0));
    expect(() => decodeCbor(tiny, messageSchemas.heartbeat, 1_000_000, 1_000)).toThrow(
      withCode('MESSAGE_TOO_LARGE'),
    );
    expect(() => verifyMessage('update', tiny)).toThrow(withCode('MESSAGE_MALFORMED'));
    // A member can sign such an update too.
    const body = encodeCbor({ ...update(null), inline: Array.from({ length: 200_000 }, () => 0) });
    const signature = signer.sign(Buffer.concat([Buffer.from('lora-swarm/1/update\0'), body]));
    const envelope = encodeCbor({ kind: 'update', author: signer.peerId, body, signature });
    expect(() => verifyMessage('update', envelope)).toThrow(withCode('MESSAGE_TOO_LARGE'));
    expect(countItems(tiny, 10)).toBe(11);
  });

  it('refuses a length beyond the end of the bytes', () => {
    const lying = Uint8Array.of(0x5a, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3);
    expect(() => decodeCbor(lying, messageSchemas.heartbeat, 100)).toThrow(withCode('MESSAGE_MALFORMED'));
  });
});

describe('peer ids', () => {
  it('hold their public key', () => {
    const spki = publicKeyOf(signer.peerId).export({ type: 'spki', format: 'der' });
    expect(peerIdOf(spki.subarray(-32))).toBe(signer.peerId);
  });

  it('are refused unless they hold an Ed25519 key', () => {
    for (const id of [
      '',
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      `${signer.peerId}1`,
      `12D3KooW${'1'.repeat(44)}`,
    ]) {
      expect(
        codeOf(() => publicKeyOf(id)),
        id,
      ).toBe('PEER_ID_INVALID');
    }
  });
});
