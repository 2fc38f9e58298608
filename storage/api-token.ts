import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../common/files/durable.ts';
import { nullIfMissing, restrictToOwner } from '../common/files/file-system.ts';
import { storageError } from './errors.ts';

const TOKEN_FILE = 'api-token';
const TOKEN_BYTES = 32;

/** Reads the token of a daemon's HTTP API. @returns null when the home has no token */
export async function readToken(home: string): Promise<string | null> {
  return readFile(join(home, TOKEN_FILE), 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}

/**
 * Reads the token of a daemon's HTTP API from the home, or creates it on first use. Only the user who owns the home can
 * read the token's file.
 * @throws SwarmError TOKEN_INVALID, WRITE_FAILED, STORE_FULL
 */
export async function loadToken(home: string): Promise<string> {
  const path = join(home, TOKEN_FILE);
  const found = await readFile(path, 'utf8').catch(nullIfMissing);
  if (found === null) {
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    await writeDurably(path, `${token}\n`, { mode: 0o600 });
    return token;
  }
  const token = found.trim();
  if (token.length < TOKEN_BYTES) {
    throw storageError('TOKEN_INVALID', `${path} does not contain a token`, { path });
  }
  await restrictToOwner(path);
  return token;
}
