import { invalid, isObject, unsupported } from './config.ts';
import { gemma3Text } from './families/gemma3.ts';
import { gpt2 } from './families/gpt2.ts';
import { llama } from './families/llama.ts';
import { mistral } from './families/mistral.ts';
import { qwen2 } from './families/qwen2.ts';
import { qwen3 } from './families/qwen3.ts';

/** Model families by transformers' `model_type`. To add one, add a file to families/ and a line here. */
export const FAMILIES = { llama, mistral, qwen2, qwen3, gemma3_text: gemma3Text, gpt2 };

/** A parsed `config.json` with defaults filled in; a union discriminated by `family`. */
export type ModelConfig = ReturnType<(typeof FAMILIES)[keyof typeof FAMILIES]['parseConfig']>;

/**
 * Reads a Hugging Face `config.json`, in the layout of transformers 4 (`rope_theta`, `rope_scaling`) or 5
 * (`rope_parameters`). Missing fields take the defaults of transformers' class of that family.
 *
 * @throws SwarmError MODEL_CONFIG if a field is missing or has a wrong type or range
 * @throws SwarmError MODEL_UNSUPPORTED if the family, or a feature that a field asks for, is not implemented
 */
export function parseConfig(json: unknown): ModelConfig {
  if (!isObject(json)) throw invalid('config.json', 'a JSON object', json);
  const names = Object.keys(FAMILIES);
  const type = json.model_type;
  if (typeof type !== 'string' || !names.includes(type)) throw unsupported('model_type', type, names);
  return FAMILIES[type as keyof typeof FAMILIES].parseConfig(json);
}
