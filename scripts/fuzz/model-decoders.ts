/** Decoders of the files of a base, and of an OCI image layout with an adapter. */
import { readFileSync } from 'node:fs';
import { FAMILIES, parseConfig } from '../../lora/models/families.ts';
import { parseJsonObject } from '../../lora/models/json.ts';
import { decodeHeader } from '../../lora/models/weights/safetensors.ts';
import { weightMapOf } from '../../lora/models/weights/tensors.ts';
import { parseOci } from '../../registry/export/import-oci.ts';
import {
  FILE_PATH,
  imageSchema,
  indexSchema,
  layoutSchema,
  MANIFEST_TYPE,
  REF_NAME,
  WEIGHT_TYPE,
} from '../../registry/export/oci-layout.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { FuzzDecoder } from './decoder.ts';
import { json, jsonOf, jsonText } from './json-of.ts';

/** Published `config.json` files, by the name of the model. */
const published: Record<string, { published: { model_type: string } }> = JSON.parse(
  readFileSync(new URL('../../test/fixtures/published-configs.json', import.meta.url), 'utf8'),
);
const configs = Object.values(published).map((model) => model.published);

/** One decoder for each family, so that each family gets as many inputs as any other decoder. */
const families = Object.keys(FAMILIES).map((family) =>
  jsonText(
    `config:${family}`,
    configs.filter((config) => config.model_type === family),
    (text) => parseConfig(parseJsonObject(text, 'config.json')),
  ),
);

const WEIGHT_MAP = {
  metadata: { total_size: 400 },
  weight_map: {
    'model.embed_tokens.weight': 'model-00001-of-00002.safetensors',
    'model.norm.weight': 'model-00002-of-00002.safetensors',
  },
};

const TENSOR_BYTES = 64;

/** Returns a safetensors file with two tensors. */
function tensors(random: SeededRandom): Uint8Array {
  const split = 4 * random.integer(1, TENSOR_BYTES / 4 - 1);
  const entry = (from: number, to: number) => ({
    dtype: 'F32',
    shape: [1, (to - from) / 4],
    data_offsets: [from, to],
  });
  const header = Buffer.from(
    JSON.stringify({
      __metadata__: { format: 'pt' },
      first: entry(0, split),
      second: entry(split, TENSOR_BYTES),
    }),
  );
  const length = Buffer.alloc(8);
  length.writeUInt32LE(header.byteLength);
  return Buffer.concat([length, header, Buffer.alloc(TENSOR_BYTES)]);
}

const DESCRIPTOR = {
  mediaType: WEIGHT_TYPE,
  digest: `sha256:${'a'.repeat(64)}`,
  size: 300,
  annotations: { [FILE_PATH]: 'adapter_model.safetensors', [REF_NAME]: 'v1' },
};
const IMAGE = { schemaVersion: 2, artifactType: WEIGHT_TYPE, layers: [DESCRIPTOR, DESCRIPTOR] };
const INDEX = { schemaVersion: 2, manifests: [{ ...DESCRIPTOR, mediaType: MANIFEST_TYPE }] };
const LAYOUT = { imageLayoutVersion: '1.0.0' };

const oci = [
  ['layout', LAYOUT, layoutSchema],
  ['index', INDEX, indexSchema],
  ['image', IMAGE, imageSchema],
] as const;

export const modelDecoders: readonly FuzzDecoder[] = [
  ...families,
  json('safetensors:index', WEIGHT_MAP, (value) => weightMapOf(value, 'index')),
  {
    name: 'safetensors:header',
    example: tensors,
    decode: (bytes) => decodeHeader(bytes, 'model.safetensors', bytes.byteLength),
  },
  ...oci.map(
    ([name, example, schema]): FuzzDecoder => ({
      ...json(`oci:${name}`, example, () => null),
      decode: (bytes) => parseOci(Buffer.from(jsonOf(bytes)), schema, { layout: 'layout', path: name }),
    }),
  ),
];
