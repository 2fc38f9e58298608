import { z } from 'zod';
import { claimedUpdate } from '../../coordinator/intake/header-checks.ts';
import { REMOVALS_BYTES, removalsContentSchema } from '../../coordinator/recovery/lost-removals.ts';
import { PROOF_BYTES, stopProofSchema } from '../../coordinator/recovery/stop-orders.ts';
import { decodeAdapter, encodeAdapter } from '../../lora/adapter/codec.ts';
import { decodeRows, encodeShards } from '../../lora/data/shards/shard-codec.ts';
import { answersSchema } from '../../lora/evaluate/questions/answers.ts';
import { questionsSchema } from '../../lora/evaluate/questions/questions.ts';
import { decodeUpdate, encodeUpdate, PRESET_NAMES } from '../../lora/update/index.ts';
import { BLOB_HEADER_BYTES, blobAnswerSchema, blobRequestSchema } from '../../net/blobs/wire.ts';
import { FrameBuffer } from '../../net/frame-buffer.ts';
import { ANSWER_OVERHEAD_BYTES, refusalSchema } from '../../net/rpc/wire.ts';
import { decodeInvite, encodeInvite } from '../../protocol/access/invite.ts';
import { decryptHead, encryptHead } from '../../protocol/access/job-key.ts';
import { SealingKey, seal } from '../../protocol/access/sealing.ts';
import { decodeTicket, encodeTicket } from '../../protocol/access/ticket.ts';
import { decodeCbor, encodeCbor } from '../../protocol/cbor.ts';
import { decodeEvidence, keepEvidence } from '../../protocol/evidence.ts';
import { ANSWERS_BYTES, QUESTIONS_BYTES } from '../../protocol/limits.ts';
import { type MessageKind, type Messages, messageBytes, messageSchemas } from '../../protocol/messages.ts';
import { rpcMethods } from '../../protocol/requests/rpc.ts';
import { verifySettings } from '../../protocol/settings-chain.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import { signerOf } from '../../test/utils/swarm/signers.ts';
import { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import { DAG_CBOR, decodeSectionHead, sectionHead } from '../../verify/bundle/car.ts';
import { RECORD_BYTES, ROOT_BYTES, recordSchema, rootSchema } from '../../verify/bundle/format.ts';
import { verifyReceipts } from '../../verify/receipts.ts';
import { bodyDecoders } from './body-decoders.ts';
import type { FuzzDecoder } from './decoder.ts';
import { fileDecoders } from './file-decoders.ts';
import { gossipDecoder } from './gossip-decoder.ts';
import { jsonText } from './json-of.ts';
import { sampleOf } from './sample.ts';

const signer = signerOf(3);
const JOB = 'b'.repeat(64);
const jobKey = { id: 1, key: new Uint8Array(32).fill(4) };
const sealingKey = new SealingKey(new Uint8Array(32).fill(5));
const sealContext = { kind: 'update', job: JOB, author: signer.peerId } as const;
const LAYOUT = [
  { name: 'first', shape: [4, 33] },
  { name: 'second', shape: [4100] },
];
const MAX_FRAME_BYTES = 64 * 1024;

/** Decodes CBOR with a schema. */
function cbor(name: string, schema: z.ZodType, maxBytes: number): FuzzDecoder {
  return {
    name,
    cbor: true,
    example: (random) => encodeCbor(sampleOf(schema, random)),
    decode: (bytes) => decodeCbor(bytes, schema, maxBytes),
  };
}

function values(random: SeededRandom): Float32Array[] {
  return LAYOUT.map(({ shape }) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () =>
      random.chance(0.2) ? random.between(-1, 1) : 0,
    ),
  );
}

/**
 * Bodies of signed messages. They are fuzzed in addition to the envelopes, because a stranger can sign any body with
 * its own key.
 */
const bodies = (Object.keys(messageSchemas) as MessageKind[]).map((kind) =>
  cbor(`body:${kind}`, messageSchemas[kind], messageBytes[kind]),
);

const envelopes = (Object.keys(messageSchemas) as MessageKind[]).map(
  (kind): FuzzDecoder => ({
    name: `envelope:${kind}`,
    cbor: true,
    example: (random) => {
      const message: object = z.parse(messageSchemas[kind], sampleOf(messageSchemas[kind], random));
      // The message must name its signer as the coordinator, or the decoder would refuse every example.
      const own = 'coordinator' in message ? { ...message, coordinator: signer.peerId } : message;
      return signMessage(kind, own as never, signer);
    },
    decode: (bytes) => verifyMessage(kind, bytes),
  }),
);

const calls = Object.entries(rpcMethods).flatMap(([method, spec]) => [
  cbor(`request:${method}`, spec.request, spec.maxRequestBytes),
  cbor(
    `answer:${method}`,
    z.union([z.strictObject({ ok: spec.response }), refusalSchema]),
    spec.maxResponseBytes + ANSWER_OVERHEAD_BYTES,
  ),
]);

const payloads = PRESET_NAMES.map(
  (preset): FuzzDecoder => ({
    name: `update:${preset}`,
    example: (random) => encodeUpdate(LAYOUT, values(random), preset).bytes,
    decode: (bytes) => decodeUpdate(bytes.length % 2 === 0 ? bytes : withLength(bytes), LAYOUT, preset),
  }),
);

/**
 * Corrects the declared length of a changed payload. With a wrong length, decoders would refuse most payloads
 * at once, and the fuzzing would not reach the code behind this check.
 */
function withLength(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes);
  if (copy.length >= 16) new DataView(copy.buffer).setUint32(12, copy.length, true);
  return copy;
}

/** The decoders that a stranger can reach. A test checks that each call of `decodeCbor` in the sources is fuzzed. */
export const decoders: readonly FuzzDecoder[] = [
  ...bodies,
  ...envelopes,
  ...calls,
  ...payloads,
  cbor('blob:request', blobRequestSchema, BLOB_HEADER_BYTES),
  cbor('blob:answer', blobAnswerSchema, BLOB_HEADER_BYTES),
  {
    name: 'update:claims',
    example: (random) => signMessage('update', sampleOf(messageSchemas.update, random) as never, signer),
    decode: claimedUpdate,
  },
  {
    name: 'evidence',
    cbor: true,
    example: (random) => {
      const update = { ...(sampleOf(messageSchemas.update, random) as Messages['update']), inline: null };
      return keepEvidence(signMessage('update', update, signer));
    },
    decode: decodeEvidence,
  },
  cbor('removals', removalsContentSchema, REMOVALS_BYTES),
  cbor('stop-proof', stopProofSchema, PROOF_BYTES),
  cbor('questions', questionsSchema, QUESTIONS_BYTES),
  cbor('answers', answersSchema, ANSWERS_BYTES),
  cbor('bundle:root', rootSchema, ROOT_BYTES),
  cbor('bundle:record', recordSchema, RECORD_BYTES),
  {
    name: 'bundle:section',
    example: (random) => sectionHead(DAG_CBOR, JOB, random.integer(0, 2 ** 30)),
    decode: decodeSectionHead,
  },
  {
    name: 'frames',
    example: (random) => {
      const length = random.integer(0, 300);
      return Uint8Array.from([...varint(length), ...new Uint8Array(length), ...varint(3), 1, 2, 3]);
    },
    decode: readFrames,
  },
  {
    name: 'head:encrypted',
    example: () => encryptHead(new Uint8Array(200), JOB, jobKey, new Uint8Array(12)),
    decode: (bytes) => decryptHead(bytes, JOB, jobKey),
  },
  {
    name: 'seal',
    example: () => seal(new Uint8Array(200), sealingKey.publicKey, sealContext, new Uint8Array(32).fill(6)),
    decode: (bytes) => sealingKey.open(bytes, sealContext),
  },
  {
    name: 'settings:chain',
    example: (random) =>
      signMessage(
        'settings',
        {
          ...(sampleOf(messageSchemas.settings, random) as Messages['settings']),
          job: JOB,
          sequence: 1,
          previous: null,
        },
        signer,
      ),
    decode: (bytes) => verifySettings([bytes], { job: JOB, coordinator: signer.peerId }),
  },
  line('invite', decodeInvite, (random) =>
    encodeInvite({
      addresses: [`/ip4/127.0.0.1/tcp/${random.integer(1, 65_535)}/p2p/${signer.peerId}`],
      job: random.pick([JOB, null]),
      token: random.pick(['token', null]),
    }),
  ),
  line('ticket', decodeTicket, () =>
    encodeTicket({
      addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${signer.peerId}`],
      version: JOB,
      envelope: { digest: JOB, size: 100 },
      key: new Uint8Array(32),
    }),
  ),
  {
    name: 'adapter',
    example: (random) => encodeAdapter(LAYOUT as never, values(random), JOB),
    decode: (bytes) => decodeAdapter(bytes, LAYOUT as never),
  },
  {
    name: 'shard',
    example: (random) => encodeShards(Array.from({ length: 3 }, () => row(random)))[0]!,
    decode: decodeRows,
  },
  gossipDecoder,
  ...fileDecoders,
  ...bodyDecoders,
  jsonText('receipts', [receiptsFile()], (text) => verifyReceipts(text)),
];

/**
 * Makes a decoder of a line of text that consists of a prefix and of CBOR in base64url. The fuzzer's input usually
 * takes the place of the CBOR. An input whose length is 7 modulo 8 takes the place of the base64url characters instead.
 */
function line(
  name: string,
  decode: (text: string) => unknown,
  example: (random: SeededRandom) => string,
): FuzzDecoder {
  const prefix = /^swarmv?1/.exec(example(new SeededRandom(1)))![0];
  return {
    name,
    cbor: true,
    example: (random) => Buffer.from(example(random).slice(prefix.length), 'base64url'),
    decode(bytes) {
      const encoding = bytes.length % 8 === 7 ? 'latin1' : 'base64url';
      return decode(prefix + Buffer.from(bytes).toString(encoding));
    },
  };
}

/** Returns a file with a receipt of a node, as the public page of a coordinator offers it. */
function receiptsFile(): object {
  const random = new SeededRandom(1);
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  const manifest = {
    ...(sampleOf(messageSchemas.manifest, random) as Messages['manifest']),
    coordinator: signer.peerId,
  };
  const envelope = signMessage('manifest', manifest, signer);
  const { digest: job } = verifyMessage('manifest', envelope);
  const receipt = {
    ...(sampleOf(messageSchemas.receipt, random) as Messages['receipt']),
    job,
    code: 'accepted',
  } as const;
  return {
    schemaVersion: 2,
    type: 'lora-swarm-receipts',
    job,
    name: manifest.name,
    coordinator: signer.peerId,
    manifest: base64(envelope),
    peer: receipt.peer,
    receipts: [base64(signMessage('receipt', receipt, signer))],
  };
}

function row(random: SeededRandom) {
  const ids = Uint32Array.from({ length: 16 }, () => random.integer(0, 300));
  return { ids, labels: Int32Array.from(ids), segments: new Uint16Array(16).fill(1) };
}

/** Reads all frames from the bytes, which arrive in pieces. The first byte decides the length of the pieces. */
function readFrames(bytes: Uint8Array): number {
  const buffer = new FrameBuffer();
  const step = 1 + ((bytes[0] ?? 0) % 50);
  let frames = 0;
  for (let at = 0; at < bytes.length; at += step) {
    buffer.add(bytes.subarray(at, at + step));
    while (buffer.frame(MAX_FRAME_BYTES) !== null) frames++;
  }
  return frames;
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, value >>> 7];
}
