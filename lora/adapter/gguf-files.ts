import { join } from 'node:path';
import { readTemplates } from '../data/render/chat-template.ts';
import { addedTokens, loadTokenizer } from '../data/tokenizer.ts';
import { readEndTokens } from '../generate/end-tokens.ts';
import type { BaseModel } from '../models/base/base-model.ts';
import { modelError } from '../models/errors.ts';
import type { WrittenType } from '../models/gguf/blocks.ts';
import { convertTensor, type Floats } from '../models/gguf/changes.ts';
import { ARCHITECTURES, configMetadata, ropeFactors } from '../models/gguf/config-metadata.ts';
import { TENSOR_FORMATS } from '../models/gguf/format.ts';
import { ggufModule, isPermuted, type TensorPlace, tensorPlaces } from '../models/gguf/tensor-names.ts';
import { tokenizerMetadata } from '../models/gguf/tokenizer-metadata.ts';
import {
  type GgufTensorToWrite,
  type WriteGgufOptions,
  type WrittenMetadata,
  type WrittenValue,
  writeGguf,
} from '../models/gguf/writer.ts';
import { readJsonObject } from '../models/json.ts';
import { matrixName } from '../models/lora.ts';
import { changesByWeight, mergedValues } from './merged-weights.ts';
import type { Adapter } from './peft.ts';
import { adapterPlan } from './plan.ts';

export interface GgufFileOptions extends WriteGgufOptions {
  /** Name of the model in the file. */
  readonly name: string;
  /** Element type of matrices. Vectors are always F32. */
  readonly type: WrittenType;
  /** Called with a warning for each known case in which llama.cpp's tokenizer gives other tokens than the model's own. */
  readonly onWarning?: (text: string) => void;
  /**
   * File of a chat template that replaces the base's templates in a merged model. @default null, the base's
   * templates
   */
  readonly template?: string | null;
}

/** Largest whole number that rounds to a finite float16. The largest float16 is 65,504, and 65,520 rounds to infinity. */
const MAX_HALF = 65_519;

/**
 * Writes a model as one GGUF file, streaming its weights. Adds an adapter to the weights before they are rounded to the
 * element type of the file.
 *
 * @param adapter null to write the base alone
 * @returns the size of the file in bytes
 * @throws SwarmError GGUF_UNSUPPORTED if llama.cpp cannot compute the model, or has no equivalent of its tokenizer
 * @throws SwarmError GGUF_RANGE if a weight does not fit into the element type
 * @throws SwarmError ADAPTER_TIED_HEAD; TOKENIZER_*
 */
export async function writeModelGguf(
  path: string,
  model: BaseModel,
  adapter: Adapter | null,
  { name, type, signal, onProgress, onWarning = () => {}, template = null }: GgufFileOptions,
): Promise<number> {
  const { config, architecture } = model;
  const metadata: WrittenMetadata = new Map<string, WrittenValue>([
    ...configMetadata(config),
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', { type: 'u32', value: TENSOR_FORMATS[type].fileType }],
    ['general.quantization_version', { type: 'u32', value: 2 }],
    ...(await readTokenizer(model, template, onWarning)),
  ]);
  const changes = adapter === null ? new Map() : await changesByWeight(model, adapter, signal);
  const places = tensorPlaces(model);
  const tensors = architecture.parameters(config).map(({ name: parameter, shape }): GgufTensorToWrite => {
    const place = places.get(parameter)!;
    const stored = place.change.kind === 'transposed' ? [...shape].reverse() : shape;
    const own = typeOf(place, stored, type);
    const data = () => {
      const values = mergedValues(model, parameter, changes.get(parameter), signal);
      return inRange(convertTensor(values, place.change, shape, 'toGguf'), own, parameter);
    };
    return { name: place.name, type: own, shape: stored, data };
  });
  const factors = ropeFactors(config);
  if (factors !== null)
    tensors.push({ name: 'rope_freqs.weight', type: 'F32', shape: [factors.length], data: () => [factors] });
  return writeGguf(path, metadata, tensors, { signal, onProgress });
}

/** Returns the type of a tensor, by the rules of llama.cpp's converter. */
function typeOf({ name }: TensorPlace, shape: readonly number[], type: WrittenType): WrittenType {
  if (shape.length < 2 || name === 'position_embd.weight') return 'F32';
  return shape.at(-1)! % TENSOR_FORMATS[type].weights === 0 ? type : 'F16';
}

/**
 * Checks that all values fit into the type of the file, and yields them unchanged.
 * @throws SwarmError GGUF_RANGE if a value is not finite, or too large for the type
 */
async function* inRange(values: Floats, type: WrittenType, tensor: string): AsyncGenerator<Float32Array> {
  const most = type === 'F16' ? MAX_HALF : Number.MAX_VALUE;
  for await (const piece of values) {
    const value = piece.find((one) => !(Math.abs(one) <= most));
    if (value !== undefined)
      throw modelError('GGUF_RANGE', `${tensor} has the weight ${value}, which does not fit into ${type}`, {
        tensor,
        type,
        found: String(value),
      });
    yield piece;
  }
}

async function readTokenizer(
  { dir, config }: BaseModel,
  template: string | null,
  onNote: (text: string) => void,
): Promise<WrittenMetadata> {
  const definition = await readJsonObject(join(dir, 'tokenizer.json'));
  const settings = await readJsonObject(join(dir, 'tokenizer_config.json')).catch(() => ({}));
  const { prefix, suffix } = await loadTokenizer(dir);
  const { sources, specialTokens } = await readTemplates(dir, template);
  const added = addedTokens(definition, settings);
  const templates = sources?.templates ?? {};
  const endTokens = await readEndTokens(dir);
  const rows = config.vocabularySize;
  return tokenizerMetadata(
    { definition, added, specialTokens, prefix, suffix, endTokens, rows, templates },
    onNote,
  );
}

/**
 * Writes an adapter alone as a GGUF file, which llama.cpp adds to a model at run time.
 *
 * @returns the size of the file in bytes
 * @throws SwarmError GGUF_ADAPTER if the adapter has a part that llama.cpp cannot add: magnitudes (DoRA),
 *   biases, saved modules, or matrices of the embedding or of a tied output head
 */
export async function writeAdapterGguf(
  path: string,
  model: BaseModel,
  adapter: Adapter,
  { name, type, signal, onProgress }: GgufFileOptions & { readonly type: 'F32' | 'F16' },
): Promise<number> {
  const { config, architecture } = model;
  const { modules, copies } = adapterPlan(model, adapter.lora);
  if (adapter.lora.useDora) throw refused('magnitudes (DoRA)');
  if (copies.length > 0) throw refused(`a trained copy of ${copies[0]!.parameter}`);
  const values = new Map(adapter.layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
  // llama.cpp multiplies the product B A of each module by alpha / rank, and the file has one alpha for all modules. If
  // the scale of a module is not alpha / rank, its B is multiplied by scale / (alpha / rank).
  const alpha = modules[0]!.scale * modules[0]!.rank;
  const tensors = modules.flatMap((module): GgufTensorToWrite[] => {
    if (module.embedding) throw refused('matrices of the embedding');
    if (module.name === architecture.head && config.tieWordEmbeddings)
      throw refused('matrices of an output head that is tied to the embedding');
    const { rank, scale } = module;
    const gguf = ggufModule(module.name, config.family);
    const factor = (scale * rank) / alpha;
    const b = values.get(matrixName(module, 'B'))!.map((value) => value * factor);
    const shape = [module.out, rank];
    const change = isPermuted(gguf, config.family)
      ? ({ kind: 'permuted', headDim: config.headDim } as const)
      : ({ kind: 'same' } as const);
    const a = values.get(matrixName(module, 'A'))!;
    const tensor = (matrix: 'a' | 'b', shape: readonly number[], floats: Floats) => ({
      name: `${gguf}.weight.lora_${matrix}`,
      type,
      shape,
      data: () => inRange(floats, type, `${module.name} (${matrix.toUpperCase()})`),
    });
    return [
      tensor('a', [rank, module.in], [a]),
      tensor('b', shape, convertTensor([b], change, shape, 'toGguf')),
    ];
  });
  const metadata: WrittenMetadata = new Map<string, WrittenValue>([
    ['general.architecture', { type: 'string', value: ARCHITECTURES[config.family] }],
    ['general.type', { type: 'string', value: 'adapter' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', { type: 'u32', value: TENSOR_FORMATS[type].fileType }],
    ['adapter.type', { type: 'string', value: 'lora' }],
    ['adapter.lora.alpha', { type: 'f32', value: alpha }],
  ]);
  return writeGguf(path, metadata, tensors, { signal, onProgress });
}

function refused(what: string) {
  return modelError('GGUF_ADAPTER', `the adapter has ${what}, which llama.cpp cannot add to a model`, {
    what,
  });
}
