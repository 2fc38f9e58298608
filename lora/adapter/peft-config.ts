import type { SwarmError } from '../../common/errors.ts';
import { adaptedModuleOf } from '../models/lora.ts';
import { isAllLinear, knownNames, type ModelShape } from '../models/targets.ts';
import { adapterError } from './errors.ts';
import type { AdapterTensor } from './layout.ts';
import { type LoraConfig, loraConfig } from './lora-config.ts';
import { adapterPlan, knownSaved, withoutUnmatched } from './plan.ts';

/** The content of `adapter_config.json`. */
export interface PeftConfig {
  readonly lora: LoraConfig;
  readonly baseModelName: string | null;
  readonly revision: string | null;
}

/** Version of PEFT that the written files are tested with (scripts/reference/check_peft.py). */
const PEFT_VERSION = '0.21.2';

/**
 * Encodes `adapter_config.json`. The file has every field of PEFT ≥ 0.10, so that its meaning does not depend on a
 * reader's defaults. As in PEFT's files, keys are sorted and indented by 2 spaces. Patterns keep their order, because
 * the first match counts.
 * @param layout names of the adapter's tensors, and whether their modules are Conv1D. If a Conv1D module is not marked
 * as such, PEFT detects it when it reads the file, and prints a warning.
 */
export function encodePeftConfig(
  config: PeftConfig,
  layout: readonly Pick<AdapterTensor, 'name' | 'conv1d'>[],
): string {
  const { lora, baseModelName, revision } = config;
  const fields: Record<string, unknown> = {
    alpha_pattern: firstOfEach(lora.alphaPattern),
    auto_mapping: null,
    base_model_name_or_path: baseModelName,
    bias: lora.bias,
    exclude_modules: lora.excludeModules.length === 0 ? null : lora.excludeModules,
    fan_in_fan_out: layout.some(({ conv1d }) => conv1d),
    inference_mode: true,
    init_lora_weights: lora.initLoraWeights,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: lora.layersToTransform.length === 0 ? null : lora.layersToTransform,
    loftq_config: {},
    lora_alpha: lora.alpha,
    lora_bias: false,
    lora_dropout: lora.dropout,
    megatron_config: null,
    megatron_core: 'megatron.core',
    modules_to_save: lora.modulesToSave.length === 0 ? null : lora.modulesToSave,
    peft_type: 'LORA',
    peft_version: PEFT_VERSION,
    r: lora.rank,
    rank_pattern: firstOfEach(lora.rankPattern),
    revision,
    target_modules: writtenTargets(lora, layout),
    target_parameters: null,
    task_type: 'CAUSAL_LM',
    trainable_token_indices: null,
    use_dora: lora.useDora,
    use_rslora: lora.useRslora,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/**
 * Returns the targets as a list of names. Servers such as vLLM do not support PEFT's 'all-linear', and PEFT itself fails on a
 * pattern that also matches a non-linear module (an activation, a whole block).
 */
function writtenTargets({ targets }: LoraConfig, layout: readonly { name: string }[]): string[] {
  if (typeof targets !== 'string') return [...targets].sort();
  const modules = layout.flatMap(({ name }) => adaptedModuleOf(name) ?? []);
  const written = isAllLinear(targets) ? modules.map((name) => name.split('.').at(-1)!) : modules;
  return [...new Set(written)].sort();
}

/**
 * Converts pairs of a pattern and a number to an object, in the same order. If a pattern occurs several times, its
 * first number counts.
 */
function firstOfEach(pairs: LoraConfig['rankPattern']): Record<string, number> {
  const patterns = pairs.map(([pattern]) => pattern);
  return Object.fromEntries(pairs.filter(([pattern], i) => patterns.indexOf(pattern) === i));
}

/** Fields for features that are not implemented, with the values that turn them off. */
const DISABLED: Readonly<Record<string, readonly unknown[]>> = {
  ensure_weight_tying: [false],
  lora_bias: [false],
  use_qalora: [false],
};

/** Fields that must be empty, because their features are not implemented. */
const EMPTY = [
  'alora_invocation_tokens',
  'arrow_config',
  'kasa_config',
  'layer_replication',
  'monteclora_config',
  'target_parameters',
  'trainable_token_indices',
  'use_bdlora',
  'velora_config',
];

/**
 * Values of `init_lora_weights` that leave the base unchanged. An adapter that was initialised in one of
 * these ways fits the unchanged base.
 */
const INITS_KEEPING_BASE = ['orthogonal', 'eva', 'mica'];

/**
 * Reads an `adapter_config.json` written by this program or by PEFT.
 *
 * @throws SwarmError ADAPTER_UNSUPPORTED if a field asks for a feature that is not implemented
 * @throws SwarmError ADAPTER_CONFIG, LORA_CONFIG if a field is missing or malformed
 */
export function parsePeftConfig(json: Record<string, unknown>, model: ModelShape): PeftConfig {
  const kind = json.peft_type;
  if (kind !== 'LORA') throw unsupported('peft_type', kind);
  for (const [field, allowed] of Object.entries(DISABLED)) {
    const value = json[field];
    if (value !== undefined && value !== null && !allowed.includes(value)) throw unsupported(field, value);
  }
  for (const field of EMPTY) {
    const value = json[field] ?? null;
    if (value !== null && !(typeof value === 'object' && Object.keys(value).length === 0))
      throw unsupported(field, value);
  }
  const lora = loraConfig({
    // PEFT's default is 8 for r and for lora_alpha. Files written by hand may lack these fields.
    rank: (json.r ?? 8) as number,
    alpha: (json.lora_alpha ?? 8) as number,
    targets: parseTargets(json.target_modules, model),
    excludeModules: parseNames(json, 'exclude_modules'),
    layersToTransform: parseLayers(json.layers_to_transform ?? []),
    rankPattern: (json.rank_pattern ?? {}) as LoraConfig['rankPattern'],
    alphaPattern: (json.alpha_pattern ?? {}) as LoraConfig['alphaPattern'],
    useRslora: (json.use_rslora ?? false) as boolean,
    useDora: (json.use_dora ?? false) as boolean,
    dropout: (json.lora_dropout ?? 0) as number,
    modulesToSave: parseSaved(json, model),
    bias: (json.bias ?? 'none') as LoraConfig['bias'],
    initLoraWeights: parseInit(json.init_lora_weights ?? true),
  });
  return {
    lora: withLayersPattern(json, withoutUnmatched(model, lora), model),
    baseModelName: textOrNull(json, 'base_model_name_or_path'),
    revision: textOrNull(json, 'revision'),
  };
}

/** Returns advice that names the adapter's base; undefined if the name is unknown. */
export function nextBase({
  baseModelName,
  revision,
}: Pick<PeftConfig, 'baseModelName' | 'revision'>): string | undefined {
  if (baseModelName === null) return undefined;
  return `use the base that the adapter was trained on: ${baseModelName}${revision === null ? '' : `@${revision}`}`;
}

function parseTargets(value: unknown, model: ModelShape): LoraConfig['targets'] {
  if (typeof value === 'string') return value;
  if (!isTexts(value)) throw malformed('target_modules', 'a string or a list of strings', value);
  // A list written for several model families names modules that this model does not have, so these names are dropped.
  // If no name matches, the whole list is kept, so that the later error shows it.
  const known = knownNames(model, value);
  return known.length > 0 ? known : value;
}

function parseNames(json: Record<string, unknown>, field: string): string | string[] {
  const value = json[field] ?? [];
  if (typeof value === 'string' || isTexts(value)) return value;
  throw malformed(field, 'a string or a list of strings', value);
}

function parseSaved(json: Record<string, unknown>, model: ModelShape): string[] {
  const value = json.modules_to_save ?? [];
  if (!isTexts(value)) throw malformed('modules_to_save', 'a list of strings', value);
  const known = knownSaved(model, value);
  return known.length > 0 ? known : value;
}

function parseLayers(value: unknown): number[] {
  return (typeof value === 'number' ? [value] : value) as number[];
}

function parseInit(value: unknown): LoraConfig['initLoraWeights'] {
  if (typeof value === 'boolean') return value;
  const name = typeof value === 'string' ? value.toLowerCase() : '';
  if (name === 'gaussian') return name;
  if (INITS_KEEPING_BASE.includes(name)) return true;
  // The other initialisations (PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA) change the base.
  throw adapterError(
    'ADAPTER_UNSUPPORTED',
    `adapter_config.json: init_lora_weights is ${JSON.stringify(value)}, which changes the base's weights, so the adapter does not fit the base that it names`,
    { field: 'init_lora_weights', found: value },
    {
      next: 'convert the adapter with PEFT (path_initial_model_for_weight_conversion), or merge it into its base with PEFT',
    },
  );
}

/**
 * Checks `layers_pattern`, the name of the list of blocks that `layers_to_transform` refers to. Without
 * `layers_pattern`, PEFT accepts a list of any name.
 */
function withLayersPattern(json: Record<string, unknown>, lora: LoraConfig, model: ModelShape): LoraConfig {
  const value = json.layers_pattern ?? [];
  const patterns = typeof value === 'string' ? [value] : value;
  if (!isTexts(patterns)) throw malformed('layers_pattern', 'a string or a list of strings', value);
  if (patterns.length === 0 || lora.layersToTransform.length === 0) return lora;
  const modules = adapterPlan(model, { ...lora, layersToTransform: [] }).modules.map(({ name }) => name);
  const lists = new Set(modules.map((name) => /([^.]*)\.\d+\./.exec(name)?.[1]));
  // Supported models have one list of blocks. Any pattern other than its name is refused.
  if (!patterns.every((pattern) => lists.has(pattern))) throw unsupported('layers_pattern', value);
  return lora;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function textOrNull(json: Record<string, unknown>, field: string): string | null {
  const value = json[field] ?? null;
  if (value !== null && typeof value !== 'string') throw malformed(field, 'a string or null', value);
  return value;
}

function malformed(field: string, expected: string, found: unknown): SwarmError {
  return adapterError(
    'ADAPTER_CONFIG',
    `adapter_config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, expected ${expected}`,
    { field, expected, found },
  );
}

function unsupported(field: string, found: unknown): SwarmError {
  return adapterError(
    'ADAPTER_UNSUPPORTED',
    `adapter_config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, which is not supported`,
    { field, found },
  );
}
