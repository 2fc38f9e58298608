import { join } from 'node:path';
import { isSwarmError } from '../../common/errors.ts';
import { readJsonObject } from '../models/json.ts';

/** Maximum size of generation_config.json in bytes. Files of published models have less than 1 KiB. */
const MAX_CONFIG_BYTES = 2 ** 20;

/**
 * Returns the `eos_token_id` of a model's generation_config.json: one id or several. Chat models name the end of a turn
 * there. Returns no ids if the file does not exist.
 * @throws SwarmError MODEL_JSON, MODEL_FILE_TOO_LARGE
 */
export async function readEndTokens(dir: string): Promise<number[]> {
  let config: Record<string, unknown>;
  try {
    config = await readJsonObject(join(dir, 'generation_config.json'), MAX_CONFIG_BYTES);
  } catch (error) {
    if (isSwarmError(error) && error.code === 'MODEL_FILE_MISSING') return [];
    throw error;
  }
  const ids = [config.eos_token_id].flat();
  return ids.filter((id): id is number => Number.isInteger(id) && Number(id) >= 0);
}
