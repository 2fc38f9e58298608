import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../common/durable.ts';

const FILE = 'listen-port';

/**
 * Returns the default listen address of a daemon: the port of its last start, so that its addresses and invites stay valid
 * over a restart; any free port for the first start.
 */
export async function defaultListen(home: string): Promise<string[]> {
  const text = await readFile(join(home, FILE), 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '0';
    throw error;
  });
  const port = Number.parseInt(text, 10);
  return [`/ip4/0.0.0.0/tcp/${Number.isInteger(port) && port > 0 && port < 65536 ? port : 0}`];
}

/** Saves the port of the daemon's first address. */
export async function rememberListen(home: string, addresses: readonly string[]): Promise<void> {
  const port = /\/tcp\/(\d+)/.exec(addresses[0] ?? '')?.[1];
  if (port !== undefined) await writeDurably(join(home, FILE), `${port}\n`);
}
