import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../common/durable.ts';

const FILE = 'listen-port';

/**
 * Where a daemon listens that was not told: on the port that it had last time, so that addresses and invites that others
 * keep stay good over a restart; the first time on any free one.
 */
export async function defaultListen(home: string): Promise<string[]> {
  const text = await readFile(join(home, FILE), 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '0';
    throw error;
  });
  const port = Number.parseInt(text, 10);
  return [`/ip4/0.0.0.0/tcp/${Number.isInteger(port) && port > 0 && port < 65536 ? port : 0}`];
}

/** Remembers the port of the first of the addresses that a daemon got. */
export async function rememberListen(home: string, addresses: readonly string[]): Promise<void> {
  const port = /\/tcp\/(\d+)/.exec(addresses[0] ?? '')?.[1];
  if (port !== undefined) await writeDurably(join(home, FILE), `${port}\n`);
}
