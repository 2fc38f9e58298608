import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { commonError } from '../../../common/common-errors.ts';
import type { HubSettings } from './fetch-model.ts';

const ENDPOINT = 'https://huggingface.co';
/** Maximum length of a token file, in characters. A longer file is ignored. */
const MAX_TOKEN_CHARACTERS = 1000;

/**
 * Reads the environment variables of huggingface_hub, with its defaults: HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN,
 * HF_TOKEN_PATH, HF_HUB_OFFLINE (huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
 *
 * @param folder folder that relative paths start from
 * @throws SwarmError USAGE if HF_ENDPOINT is not a URL
 */
export async function hubSettings(
  environment: Readonly<Record<string, string | undefined>>,
  folder: string,
): Promise<HubSettings> {
  const user = environment.HOME || homedir();
  const tilde = process.platform === 'win32' ? /^~(?=[\\/]|$)/ : /^~(?=\/|$)/;
  const path = (text: string): string => resolve(folder, text.replace(tilde, user));
  const home = path(
    environment.HF_HOME || join(environment.XDG_CACHE_HOME || join(user, '.cache'), 'huggingface'),
  );
  const cache = environment.HF_HUB_CACHE || environment.HUGGINGFACE_HUB_CACHE;
  const tokenFile = environment.HF_TOKEN_PATH ? path(environment.HF_TOKEN_PATH) : join(home, 'token');
  return {
    endpoint: endpointOf(environment.HF_ENDPOINT || ENDPOINT),
    cacheDir: cache ? path(cache) : join(home, 'hub'),
    accessToken: environment.HF_TOKEN?.trim() || (await readToken(tokenFile)),
    offline: isTrue(environment.HF_HUB_OFFLINE) || isTrue(environment.TRANSFORMERS_OFFLINE),
  };
}

function endpointOf(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw commonError(
      'USAGE',
      `HF_ENDPOINT is ${JSON.stringify(text)}, which is not a URL`,
      {},
      { next: `set it to a URL such as ${ENDPOINT}` },
    );
  }
  return text.replace(/\/+$/, '');
}

async function readToken(file: string): Promise<string | null> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.length <= MAX_TOKEN_CHARACTERS ? text.trim() || null : null;
}

function isTrue(value: string | undefined): boolean {
  return /^(1|true|yes|on)$/i.test(value ?? '');
}
