import { join } from 'node:path';
import { readJsonObject } from '../models/json.ts';
import { adaptedModuleOf, PEFT_PREFIX } from '../models/lora.ts';
import { firstMatches } from '../models/patterns.ts';
import { readHeader, readTensor } from '../models/weights/safetensors.ts';
import { checkFinite, MAX_ADAPTER_HEADER_BYTES } from './codec.ts';
import { adapterError } from './errors.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, MAX_CONFIG_BYTES } from './peft.ts';

/** The LoRA matrices of one module. They change the weight of the module by scale·B A. */
export interface ModuleMatrices {
  /** Path of the module, such as `model.layers.3.self_attn.q_proj`. */
  readonly name: string;
  readonly rank: number;
  readonly in: number;
  readonly out: number;
  /** Whether the module is an embedding. PEFT's files have different names for the matrices of embeddings. */
  readonly isEmbedding: boolean;
  /** α / r, or α / √r with rsLoRA. */
  readonly scale: number;
  /** A: [rank, in]. */
  readonly a: Float32Array;
  /** B: [out, rank]. */
  readonly b: Float32Array;
}

/**
 * Reads the LoRA matrices of a PEFT folder without its base, sorted by module. Ranks come from the shapes. Biases, saved
 * modules and magnitudes (DoRA) are left out.
 * @throws SwarmError ADAPTER_TENSORS, ADAPTER_CONFIG, ADAPTER_NOT_FINITE, MODEL_FILE_MISSING, MODEL_JSON, TENSORS_*
 */
export async function readMatrices(folder: string): Promise<ModuleMatrices[]> {
  const config = await readJsonObject(join(folder, ADAPTER_CONFIG_FILE), MAX_CONFIG_BYTES);
  const path = join(folder, ADAPTER_WEIGHTS_FILE);
  const { entries } = await readHeader(path, MAX_ADAPTER_HEADER_BYTES);
  const names = [...entries.keys()].flatMap((tensor) => adaptedModuleOf(tensor) ?? []).sort();
  const alphas = alphasOf(config, names);
  const modules: ModuleMatrices[] = [];
  for (const [i, name] of names.entries()) {
    const isEmbedding = entries.has(`${PEFT_PREFIX}${name}.lora_embedding_A`);
    const tensorOf = (matrix: string): string =>
      `${PEFT_PREFIX}${name}.${isEmbedding ? `lora_embedding_${matrix}` : `lora_${matrix}.weight`}`;
    const [a, b] = [tensorOf('A'), tensorOf('B')].map((tensor) => ({ tensor, entry: entries.get(tensor) }));
    const [rank = 0, width = 0] = a!.entry!.shape;
    const [out = 0, columns = 0] = b!.entry?.shape ?? [];
    if (a!.entry!.shape.length !== 2 || b!.entry?.shape.length !== 2 || columns !== rank || rank === 0) {
      const [given, other] = [a, b].map(({ entry }) => (entry ? `[${entry.shape.join(', ')}]` : 'missing'));
      const message = `${path}: A of ${name} is ${given} and B is ${other}, expected [r, in] and [out, r]`;
      throw adapterError('ADAPTER_TENSORS', message, { file: path, tensor: b!.tensor });
    }
    const read = async ({ tensor, entry }: NonNullable<typeof a>): Promise<Float32Array> => {
      const values = await readTensor(path, entry!);
      checkFinite(values, tensor, path);
      return values;
    };
    const scale = config.use_rslora === true ? alphas[i]! / Math.sqrt(rank) : alphas[i]! / rank;
    modules.push({ name, rank, in: width, out, isEmbedding, scale, a: await read(a!), b: await read(b!) });
  }
  return modules;
}

/** Returns α of each module. @throws SwarmError ADAPTER_CONFIG */
function alphasOf(config: Record<string, unknown>, names: readonly string[]): number[] {
  // 8 is PEFT's default. Files written by hand may lack lora_alpha.
  const alpha = config.lora_alpha ?? 8;
  const patterns = Object.entries((config.alpha_pattern ?? {}) as Record<string, unknown>);
  const values = [alpha, ...patterns.map(([, value]) => value)];
  const wrong = values.findIndex((value) => typeof value !== 'number' || !Number.isFinite(value));
  if (wrong !== -1) {
    const field = wrong === 0 ? 'lora_alpha' : `alpha_pattern.${patterns[wrong - 1]![0]}`;
    const value = JSON.stringify(values[wrong]);
    const message = `adapter_config.json: ${field} is ${value}, which is not a number`;
    throw adapterError('ADAPTER_CONFIG', message, { field });
  }
  const found = firstMatches(
    'alpha_pattern',
    names,
    patterns.map(([pattern]) => pattern),
    'end',
  );
  return found.map((index) => values[index + 1] as number);
}
