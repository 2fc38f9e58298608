import { encodeAdapter } from '../../../lora/adapter/codec.ts';
import type { AdapterLayout } from '../../../lora/adapter/layout.ts';
import type { Row } from '../../../lora/data/row.ts';
import { encodeShards } from '../../../lora/data/shards/shard-codec.ts';
import { baseDigest } from '../../../lora/models/base/base-identity.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { type Manifest, manifestSchema } from '../../../protocol/job/manifest.ts';
import { type Signer, signMessage, verifyMessage } from '../../../protocol/signing.ts';

/** Returns the layout of a toy adapter: two LoRA matrices (drift needs both), small enough for thousands of rounds. */
export function toyLayout(width = 32): AdapterLayout {
  const module = 'base_model.model.model.layers.0.self_attn.q_proj';
  return [
    { name: `${module}.lora_A.weight`, shape: [2, width], group: 'A' },
    { name: `${module}.lora_B.weight`, shape: [width, 2], group: 'B' },
  ];
}

export const SEQUENCE_LENGTH = 8;
const ROWS_PER_SHARD = 64;

/** Returns rows with different tokens. */
export function toyRows(count: number): Row[] {
  return Array.from({ length: count }, (_, index) => ({
    ids: Uint32Array.from({ length: SEQUENCE_LENGTH }, (_, i) => (index * 31 + i * 7) % 251),
    segments: new Uint16Array(SEQUENCE_LENGTH).fill(1),
    labels: Int32Array.from({ length: SEQUENCE_LENGTH }, (_, i) => (index * 31 + i * 7 + 7) % 251),
  }));
}

export interface ToyJobOptions {
  layout?: AdapterLayout;
  /** Rows of the data, or their number. */
  rows?: number | readonly Row[];
  /** Adapter that round 1 starts from. @default all values are 0.5 */
  initial?: readonly Float32Array[];
  training?: Partial<Manifest['training']>;
  rounds?: Partial<Manifest['rounds']>;
  /** Base digest in the manifest. @default the digest of its files */
  base?: string;
  /** Whether the manifest names the coordinator, as that of a new job does. @default false */
  namesCoordinator?: boolean;
}

export interface ToyJob {
  readonly job: string;
  readonly manifest: Manifest;
  readonly envelope: Uint8Array;
  readonly layout: AdapterLayout;
  /** Initial content of the coordinator's blob store: base, initial adapter, data. */
  readonly blobs: Uint8Array[];
  readonly initial: Uint8Array;
}

/** Returns a signed job. Its base is one file, which is never opened. */
export function toyJob(
  signer: Signer,
  {
    layout = toyLayout(),
    rows: content = 96,
    initial: tensors = layout.map(({ shape }) => new Float32Array(shape[0] * shape[1]).fill(0.5)),
    training = {},
    rounds = {},
    base: claimed,
    namesCoordinator = false,
  }: ToyJobOptions = {},
): ToyJob {
  const base = Buffer.from('the weights of a toy');
  const files = [{ path: 'model.safetensors', size: base.byteLength, digest: sha256(base) }];
  const digest = claimed ?? baseDigest(files);
  const shards: { bytes: Uint8Array; rows: number }[] = [];
  const all = typeof content === 'number' ? toyRows(content) : content;
  const rows = all.length;
  const sequenceLength = all[0]!.ids.length;
  for (let start = 0; start < rows; start += ROWS_PER_SHARD) {
    const part = all.slice(start, start + ROWS_PER_SHARD);
    for (const bytes of encodeShards(part)) shards.push({ bytes, rows: part.length });
  }
  const initial = encodeAdapter(layout, tensors, digest);
  const heldOut = { digest: sha256(Buffer.from('held out')), rows: 8, tokens: 8 * sequenceLength };
  const manifest = manifestSchema.parse({
    version: 1,
    name: 'toy',
    ...(namesCoordinator && { coordinator: signer.peerId }),
    base: {
      name: 'toy',
      digest,
      parameters: 1000,
      files,
    },
    data: {
      rows,
      tokens: rows * sequenceLength,
      sequenceLength,
      shards: shards.map((shard) => ({
        digest: sha256(shard.bytes),
        size: shard.bytes.byteLength,
        rows: shard.rows,
      })),
      heldOut,
    },
    lora: { rank: 2, alpha: 4 },
    adapter: {
      parameters: tensors.reduce((sum, tensor) => sum + tensor.length, 0),
      initial: { digest: sha256(initial), size: initial.byteLength },
    },
    training: { batchSize: 4, microBatch: 4, sequenceLength, ...training },
    rounds: { localSteps: 4, maxSeconds: 30, ...rounds },
    acceptance: {},
    seed: 1,
    createdAt: 0,
  });
  const envelope = signMessage('manifest', manifest, signer);
  return {
    job: verifyMessage('manifest', envelope).digest,
    manifest,
    envelope,
    layout,
    blobs: [base, initial, ...shards.map(({ bytes }) => bytes)],
    initial,
  };
}
