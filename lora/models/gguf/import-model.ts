import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAlive, parsePartialName, renameDurably, writeDurably } from '../../../common/files/durable.ts';
import type { Architecture, Parameter } from '../architecture.ts';
import { TOOL_TEMPLATE_FILE } from '../base/base-identity.ts';
import type { Json } from '../config.ts';
import { modelError } from '../errors.ts';
import { FAMILIES, type ModelConfig, parseConfig } from '../families.ts';
import { encodeFloats, type FloatDtype, isFloatDtype } from '../weights/dtypes.ts';
import { writeSafetensors } from '../weights/safetensors-writer.ts';
import { SINGLE_FILE } from '../weights/tensors.ts';
import { convertTensor } from './changes.ts';
import { Metadata } from './metadata.ts';
import { configOf } from './metadata-config.ts';
import { type TokenizerFiles, tokenizerOf } from './metadata-tokenizer.ts';
import { type GgufHeader, type GgufTensor, readGguf, tensorFloats } from './reader.ts';
import { type TensorPlace, tensorPlaces } from './tensor-names.ts';

export interface ImportGgufOptions {
  /** A GGUF file with a model. */
  readonly path: string;
  /** The folder that is written. It must not exist. */
  readonly output: string;
  readonly signal?: AbortSignal;
  /** Called after each piece of the weights, with the bytes written so far and the bytes of all weights. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Called before the folder appears. If the callback rejects, no folder is written. */
  readonly beforeRename?: () => Promise<void>;
}

/** Tensor with the factors of the rotary frequencies. In Hugging Face's layout, the factors are part of the config. */
const ROPE_FACTORS = 'rope_freqs.weight';
/**
 * Maximum number of rotary factors. A file has one factor for each pair of dimensions of an attention head.
 * Published models have heads of at most 512 dimensions.
 */
const MAX_ROPE_FACTORS = 4096;

/** A parameter of the model and its tensor in the file. */
interface Source {
  readonly parameter: Parameter;
  readonly place: TensorPlace;
  readonly tensor: GgufTensor;
  /** Element type in the written file. Quantised weights become F32, which holds them exactly. */
  readonly dtype: FloatDtype;
}

/**
 * Converts a GGUF file to a model folder in Hugging Face's layout: config, tokenizer, chat templates and weights. Equal
 * files give equal folders. Weights stream through memory. The folder appears complete or not at all.
 *
 * @throws SwarmError GGUF_* if the file is damaged, or has a feature that cannot be converted exactly
 * @throws SwarmError MODEL_CONFIG, MODEL_UNSUPPORTED, TENSORS_MISSING, TENSORS_SHAPE, TENSORS_UNEXPECTED
 */
export async function importGguf({
  path,
  output,
  signal,
  onProgress,
  beforeRename,
}: ImportGgufOptions): Promise<void> {
  const header = await readGguf(path);
  const metadata = new Metadata(header.metadata, path);
  refuseOtherFiles(metadata);
  const json = await configFile(path, header, metadata);
  const config = parseConfig(json);
  const sources = sourcesOf(path, header, config);
  const tokenizer = tokenizerOf(metadata);
  await removeAbandoned(dirname(output));
  const partial = `${output}.${process.pid}-${conversions++}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    await writeJson(join(partial, 'config.json'), json);
    await writeTokenizer(partial, tokenizer, json);
    await writeWeights(path, join(partial, SINGLE_FILE), sources, { signal, onProgress });
    await beforeRename?.();
    await renameDurably(partial, output);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Number of conversions so far. Together with the process id, this number makes the name of each partial
 * folder unique.
 */
let conversions = 0;

/** Removes the partial folders of processes that no longer run. */
async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const partial = parsePartialName(name);
    if (partial !== null && !isAlive(partial.pid))
      await rm(join(parent, name), { recursive: true, force: true });
  }
}

function refuseOtherFiles(metadata: Metadata): void {
  const type = metadata.text('general.type', 'model');
  if (type !== 'model') {
    const next = 'use the GGUF file of a model; an adapter is used as a PEFT folder, with --adapter';
    throw metadata.unsupported(`the type ${JSON.stringify(type)} instead of a model`, { next });
  }
  if (metadata.number('split.count', 1) > 1) throw metadata.unsupported('only a part of a split model');
}

async function configFile(path: string, { tensors }: GgufHeader, metadata: Metadata): Promise<Json> {
  const embedding = tensors.get('token_embd.weight');
  const vocabularySize = embedding?.shape[0];
  if (vocabularySize === undefined) throw missing(path, 'token_embd.weight', []);
  const factors = tensors.get(ROPE_FACTORS);
  if (factors !== undefined && (factors.shape.length !== 1 || factors.shape[0]! > MAX_ROPE_FACTORS))
    throw metadata.unsupported(`${ROPE_FACTORS} of shape [${factors.shape.join(', ')}]`);
  const ropeFactors = factors === undefined ? null : await readAll(path, factors);
  return configOf(metadata, { has: (name) => tensors.has(name), vocabularySize, ropeFactors });
}

async function readAll(path: string, tensor: GgufTensor): Promise<Float32Array> {
  const values: number[] = [];
  for await (const piece of tensorFloats(path, tensor)) values.push(...piece);
  return Float32Array.from(values);
}

/** Finds the tensor of each parameter, and refuses a file with missing, additional or misshaped tensors. */
function sourcesOf(path: string, { tensors }: GgufHeader, config: ModelConfig): Source[] {
  const architecture: Architecture = FAMILIES[config.family];
  const places = tensorPlaces({ architecture, config });
  const used = new Set([ROPE_FACTORS]);
  const sources = architecture.parameters(config).map((parameter): Source => {
    const place = places.get(parameter.name)!;
    const tensor = tensors.get(place.name);
    if (tensor === undefined) throw missing(path, place.name, parameter.shape);
    used.add(place.name);
    const { kind } = place.change;
    const expected = kind === 'transposed' ? [...parameter.shape].reverse() : parameter.shape;
    if (JSON.stringify(tensor.shape) !== JSON.stringify(expected))
      throw modelError(
        'TENSORS_SHAPE',
        `${path}: ${place.name} is [${tensor.shape.join(', ')}], expected [${expected.join(', ')}] from the metadata`,
        { file: path, tensor: place.name, expected, found: tensor.shape },
        { next: 'get the file again' },
      );
    const dtype = isFloatDtype(tensor.type) && kind !== 'shifted' ? tensor.type : 'F32';
    return { parameter, place, tensor, dtype };
  });
  const extra = [...tensors.keys()].find((name) => !used.has(name));
  if (extra !== undefined)
    throw modelError(
      'TENSORS_UNEXPECTED',
      `${path}: ${extra} is not part of a model of the family ${config.family}, and ignoring it would give wrong results`,
      { file: path, tensor: extra },
    );
  return sources;
}

function missing(path: string, tensor: string, shape: readonly number[]) {
  return modelError('TENSORS_MISSING', `${path} has no tensor ${tensor}`, {
    file: path,
    tensor,
    expected: shape,
  });
}

async function writeWeights(
  path: string,
  target: string,
  sources: readonly Source[],
  { signal, onProgress = () => {} }: Pick<ImportGgufOptions, 'signal' | 'onProgress'>,
): Promise<void> {
  const bytesOf = { F32: 4, F16: 2, BF16: 2 };
  const total = sources.reduce(
    (sum, { parameter, dtype }) => sum + parameter.shape.reduce((a, b) => a * b, bytesOf[dtype]),
    0,
  );
  let done = 0;
  async function* encoded({ parameter, place, tensor, dtype }: Source): AsyncGenerator<Uint8Array> {
    const floats = tensorFloats(path, tensor, signal);
    for await (const values of convertTensor(floats, place.change, parameter.shape, 'fromGguf')) {
      const bytes = encodeFloats(values, dtype);
      done += bytes.byteLength;
      yield bytes;
      onProgress(done, total);
    }
  }
  await writeSafetensors(
    target,
    sources.map((source) => {
      const { parameter, dtype } = source;
      return { name: parameter.name, dtype, shape: parameter.shape, data: () => encoded(source) };
    }),
  );
}

async function writeTokenizer(
  dir: string,
  { definition, config, endTokens, templates }: TokenizerFiles,
  { bos_token_id }: Json,
): Promise<void> {
  // Writes JSON without line breaks, because with them a large vocabulary would exceed the maximum size of tokenizer.json.
  await writeDurably(join(dir, 'tokenizer.json'), JSON.stringify(definition));
  await writeJson(join(dir, 'tokenizer_config.json'), config);
  await writeJson(join(dir, 'generation_config.json'), {
    bos_token_id,
    eos_token_id: endTokens.length === 1 ? endTokens[0] : endTokens,
  });
  if (templates.default !== undefined)
    await writeDurably(join(dir, 'chat_template.jinja'), templates.default);
  if (templates.tool_use === undefined) return;
  await mkdir(dirname(join(dir, TOOL_TEMPLATE_FILE)), { recursive: true });
  await writeDurably(join(dir, TOOL_TEMPLATE_FILE), templates.tool_use);
}

function writeJson(path: string, content: Json): Promise<void> {
  return writeDurably(path, `${JSON.stringify(content, null, 1)}\n`);
}
