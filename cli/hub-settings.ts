import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { HubSettings } from '../lora/models/hub/fetch-model.ts';
import { usageError } from './errors.ts';
import type { Environment } from './homes.ts';

const ENDPOINT = 'https://huggingface.co';
/** A file with more than this is no token. */
const MAX_TOKEN_CHARACTERS = 1000;

/**
 * The environment variables of huggingface_hub, with its defaults: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN,
 * HF_TOKEN_PATH, HF_HUB_OFFLINE (huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
 * @throws SwarmError USAGE where HF_ENDPOINT is no address
 */
export async function hubSettings(environment: Environment, cwd: string): Promise<HubSettings> {
  const user = environment.HOME || homedir();
  const path = (text: string): string => resolve(cwd, text.replace(/^~(?=\/|$)/, user));
  const home = path(
    environment.HF_HOME || join(environment.XDG_CACHE_HOME || join(user, '.cache'), 'huggingface'),
  );
  const cache = environment.HF_HUB_CACHE || environment.HUGGINGFACE_HUB_CACHE;
  const tokenFile = environment.HF_TOKEN_PATH ? path(environment.HF_TOKEN_PATH) : join(home, 'token');
  return {
    endpoint: endpointOf(environment.HF_ENDPOINT || ENDPOINT),
    cacheDir: cache ? path(cache) : join(home, 'hub'),
    accessToken: environment.HF_TOKEN?.trim() || (await tokenIn(tokenFile)),
    offline: isTrue(environment.HF_HUB_OFFLINE) || isTrue(environment.TRANSFORMERS_OFFLINE),
  };
}

function endpointOf(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw usageError(
      `HF_ENDPOINT is ${JSON.stringify(text)}, which is no address`,
      `for example ${ENDPOINT}`,
    );
  return text.replace(/\/+$/, '');
}

async function tokenIn(file: string): Promise<string | null> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.length <= MAX_TOKEN_CHARACTERS ? text.trim() || null : null;
}

function isTrue(value: string | undefined): boolean {
  return /^(1|true|yes|on)$/i.test(value ?? '');
}
