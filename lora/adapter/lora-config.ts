import type { z } from 'zod';
import { loraSchema } from '../../protocol/job/manifest.ts';
import { adapterError } from './errors.ts';

/** LoRA settings. protocol/job/manifest.ts describes every field, and docs/training.md has PEFT's names of them. */
export type LoraConfig = z.output<typeof loraSchema>;

/**
 * Fills in defaults (r = 16, α = 32, all linear modules), and checks the settings as far as possible without a model.
 * @throws SwarmError LORA_CONFIG (values: field) if a value is out of range or conflicts with another
 */
export function loraConfig(settings: Partial<LoraConfig>): LoraConfig {
  const result = loraSchema.safeParse(settings);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => ({ field: path.join('.'), message }));
  throw adapterError(
    'LORA_CONFIG',
    `invalid LoRA settings: ${problems.map(({ field, message }) => `${field}: ${message}`).join('; ')}`,
    { field: problems[0]!.field, problems },
  );
}
