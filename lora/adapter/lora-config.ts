import type { z } from 'zod';
import { loraSchema } from '../../protocol/manifest.ts';
import { adapterError } from './errors.ts';

/** The shape of an adapter, in PEFT's terms; every field is described in protocol/manifest.ts. */
export type LoraConfig = z.output<typeof loraSchema>;

/**
 * Fills in the defaults (r = 16, α = 32 on all linear modules) and checks what can be checked without a model.
 * @throws SwarmError LORA_CONFIG (values: field) a value is out of its range or does not go with another
 */
export function loraConfig(settings: Partial<LoraConfig>): LoraConfig {
  const result = loraSchema.safeParse(settings);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => ({ field: path.join('.'), message }));
  throw adapterError(
    'LORA_CONFIG',
    `the adapter's settings are wrong: ${problems.map(({ field, message }) => `${field}: ${message}`).join('; ')}`,
    { field: problems[0]!.field, problems },
  );
}
