import { SwarmError } from '../../protocol/errors.ts';
import type { LinearModule } from '../models/architecture.ts';
import { moduleOf } from '../models/lora.ts';
import { isAllLinear, knownTargets, type Targets } from '../models/targets.ts';
import type { AdapterLayout, LoraConfig } from './layout.ts';

/** What `adapter_config.json` says about an adapter that this engine can compute. */
export interface PeftConfig {
  readonly lora: LoraConfig;
  readonly baseModelName: string | null;
  readonly revision: string | null;
}

/** Version of PEFT whose reading of these files is checked (scripts/reference/check_peft.py). */
const PEFT_VERSION = '0.21.2';

/**
 * `adapter_config.json`: every field that PEFT ≥ 0.10 knows with its default spelt out, so that no reader's own
 * defaults matter; keys sorted and indented by 2, as PEFT does.
 */
export function encodePeftConfig(config: PeftConfig, layout: AdapterLayout): string {
  const { lora, baseModelName, revision } = config;
  const fields: Record<string, unknown> = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: baseModelName,
    bias: 'none',
    exclude_modules: null,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: lora.alpha,
    lora_bias: false,
    lora_dropout: 0,
    megatron_config: null,
    megatron_core: 'megatron.core',
    modules_to_save: null,
    peft_type: 'LORA',
    peft_version: PEFT_VERSION,
    r: lora.rank,
    rank_pattern: {},
    revision,
    target_modules: writtenTargets(lora.targets, layout),
    target_parameters: null,
    task_type: 'CAUSAL_LM',
    trainable_token_indices: null,
    use_dora: false,
    use_rslora: false,
  };
  return `${JSON.stringify(fields, null, 2)}\n`;
}

/**
 * Always a list: servers such as vLLM do not know PEFT's 'all-linear', and PEFT itself fails on a pattern that
 * also matches a module which is not linear (an activation, a whole block).
 */
function writtenTargets(targets: Targets, layout: AdapterLayout): string[] {
  if (typeof targets !== 'string') return [...targets].sort();
  const modules = layout.map(({ name }) => moduleOf(name));
  const written = isAllLinear(targets) ? modules.map((name) => name.split('.').at(-1)!) : modules;
  return [...new Set(written)].sort();
}

/** Fields that change what an adapter computes, with the values under which it is plain LoRA. */
const PLAIN: Readonly<Record<string, readonly unknown[]>> = {
  bias: ['none'],
  fan_in_fan_out: [false],
  lora_bias: [false],
  use_dora: [false],
  use_qalora: [false],
  // Others rewrite the base's weights (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA): the adapter is then no adapter of this base.
  init_lora_weights: [true, false, 'gaussian', 'orthogonal', 'eva', 'mica'],
};

/** Fields that must be empty for the same reason. */
const EMPTY = [
  'alpha_pattern',
  'alora_invocation_tokens',
  'arrow_config',
  'exclude_modules',
  'kasa_config',
  'layer_replication',
  'layers_to_transform',
  'modules_to_save',
  'monteclora_config',
  'rank_pattern',
  'target_parameters',
  'trainable_token_indices',
  'use_bdlora',
];

/**
 * Reads `adapter_config.json`, ours or PEFT's. Rank-stabilised LoRA (scale α/√r) is taken in as the equal
 * plain one (α·√r).
 *
 * @throws SwarmError ADAPTER_UNSUPPORTED a field asks for more than plain LoRA on linear modules
 * @throws SwarmError ADAPTER_CONFIG a field is missing or malformed
 */
export function parsePeftConfig(json: Record<string, unknown>, modules: readonly LinearModule[]): PeftConfig {
  const kind = json.peft_type;
  if (kind !== 'LORA') throw unsupported('peft_type', kind);
  for (const [field, allowed] of Object.entries(PLAIN)) {
    const value = json[field];
    if (value !== undefined && value !== null && !allowed.includes(value)) throw unsupported(field, value);
  }
  for (const field of EMPTY) {
    const value = json[field] ?? null;
    if (value !== null && !(typeof value === 'object' && Object.keys(value).length === 0))
      throw unsupported(field, value);
  }
  // PEFT's own defaults, for files written by hand.
  const rank = json.r ?? 8;
  const alpha = json.lora_alpha ?? 8;
  if (typeof rank !== 'number') throw malformed('r', 'a number', rank);
  if (typeof alpha !== 'number') throw malformed('lora_alpha', 'a number', alpha);
  return {
    lora: {
      rank,
      alpha: json.use_rslora === true ? alpha * Math.sqrt(rank) : alpha,
      targets: parseTargets(json.target_modules, modules),
    },
    baseModelName: textOrNull(json, 'base_model_name_or_path'),
    revision: textOrNull(json, 'revision'),
  };
}

function parseTargets(value: unknown, modules: readonly LinearModule[]): Targets {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw malformed('target_modules', 'a text or a list of texts', value);
  // Lists made for several families of models name modules that this one lacks. If none is left, the whole
  // list goes on, so that the error names it.
  const known = knownTargets(modules, value);
  return known.length > 0 ? known : value;
}

function textOrNull(json: Record<string, unknown>, field: string): string | null {
  const value = json[field] ?? null;
  if (value !== null && typeof value !== 'string') throw malformed(field, 'a text or null', value);
  return value;
}

function malformed(field: string, expected: string, found: unknown): SwarmError {
  return new SwarmError(
    'ADAPTER_CONFIG',
    `adapter_config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, expected ${expected}`,
    { field, expected, found },
  );
}

function unsupported(field: string, found: unknown): SwarmError {
  return new SwarmError(
    'ADAPTER_UNSUPPORTED',
    `adapter_config.json: ${field} is ${JSON.stringify(found) ?? 'missing'}, which is more than plain LoRA on linear modules; merge the adapter into its base with PEFT and use the result`,
    { field, found },
  );
}
