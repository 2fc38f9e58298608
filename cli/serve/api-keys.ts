import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { serveError } from '../../serve/errors.ts';
import type { Context } from '../context.ts';
import { printNote } from '../print.ts';

export interface ApiKeyFlags {
  apiKey?: string;
  apiKeyFile?: string;
}

/** Minimum length of a key, in characters. A shorter key could be guessed over the network. */
const MIN_KEY = 16;
const KEY = /^[\x21-\x7e]+$/;

/**
 * Returns the API keys of `lora-swarm serve`: the keys in the file, the key in SWARM_API_KEY, and the key on the command
 * line. Lines of the file that are empty or begin with "#" contain no key.
 * @throws SwarmError API_KEYS_INVALID; a system error if the file cannot be read
 */
export async function apiKeys(
  context: Pick<Context, 'cwd' | 'environment' | 'stderr'>,
  { apiKey, apiKeyFile }: ApiKeyFlags,
): Promise<string[]> {
  const keys: { key: string; where: string }[] = [];
  if (apiKeyFile !== undefined) {
    const path = resolve(context.cwd, apiKeyFile);
    const lines = (await readFile(path, 'utf8')).split('\n').map((line) => line.trim());
    for (const key of lines) if (key !== '' && !key.startsWith('#')) keys.push({ key, where: path });
    if (keys.length === 0) {
      const next = 'write one API key per line into the file; make a key with: openssl rand -hex 24';
      throw serveError('API_KEYS_INVALID', `${path} contains no API key`, { where: path }, { next });
    }
  }
  const { SWARM_API_KEY } = context.environment;
  if (SWARM_API_KEY) keys.push({ key: SWARM_API_KEY, where: 'SWARM_API_KEY' });
  if (apiKey !== undefined) {
    printNote(
      context,
      '--api-key shows the key to every user of this machine, because they can read the arguments of a command; use --api-key-file FILE instead',
    );
    keys.push({ key: apiKey, where: '--api-key' });
  }
  for (const { key, where } of keys) {
    if (key.length >= MIN_KEY && KEY.test(key)) continue;
    const message = `an API key from ${where} is shorter than ${MIN_KEY} characters, or has a character that an HTTP header cannot contain`;
    throw serveError(
      'API_KEYS_INVALID',
      message,
      { where },
      { next: 'make a key with: openssl rand -hex 24' },
    );
  }
  return keys.map(({ key }) => key);
}
