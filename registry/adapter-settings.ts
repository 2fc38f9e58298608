import type { VersionManifest } from '../protocol/version-manifest.ts';

type Settings = VersionManifest['settings'];

/** Fields of adapter_config.json that are settings of an adapter, with their names in this project. */
const LORA_FIELDS: Readonly<Record<string, string>> = {
  r: 'rank',
  lora_alpha: 'alpha',
  target_modules: 'targets',
  exclude_modules: 'excludeModules',
  layers_to_transform: 'layersToTransform',
  rank_pattern: 'rankPattern',
  alpha_pattern: 'alphaPattern',
  use_rslora: 'useRslora',
  use_dora: 'useDora',
  lora_dropout: 'dropout',
  modules_to_save: 'modulesToSave',
  bias: 'bias',
};

/**
 * Maximum length of a setting's text, in characters. Longer texts are cut, because settings are only shown and
 * compared.
 */
const TEXT_CHARACTERS = 4096;

/** Returns the settings in the content of adapter_config.json, under names such as "lora.rank". */
export function loraSettings(config: Readonly<Record<string, unknown>>): Settings {
  const found = Object.entries(LORA_FIELDS).flatMap(([field, name]) => {
    const value = config[field];
    // PEFT writes the target modules in no fixed order, and their order has no effect, so they are sorted.
    return isEmpty(value) ? [] : [[name, field === 'target_modules' ? sorted(value) : value]];
  });
  return flatSettings({ lora: Object.fromEntries(found) as Record<string, unknown> });
}

/**
 * Flattens nested settings: `{ training: { learningRate: 1 } }` becomes `{ 'training.learningRate': 1 }`. A map whose
 * keys the user chose, such as `rankPattern`, becomes JSON text.
 */
export function flatSettings(settings: Readonly<Record<string, unknown>>, prefix = ''): Settings {
  const flat: Settings = {};
  for (const [key, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    const name = `${prefix}${key}`;
    if (isBlock(value)) Object.assign(flat, flatSettings(value, `${name}.`));
    else flat[name] = scalar(value);
  }
  return flat;
}

/** Returns whether a value is a group of settings, whose keys are plain words. */
function isBlock(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.keys(value).every((key) => /^[A-Za-z][A-Za-z0-9]{0,39}$/.test(key));
}

function scalar(value: unknown): Settings[string] {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.slice(0, TEXT_CHARACTERS);
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0)
  );
}

function sorted(value: unknown): unknown {
  return Array.isArray(value) ? [...value].sort() : value;
}
