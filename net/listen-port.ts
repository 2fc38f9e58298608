import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../common/files/durable.ts';
import { nullIfMissing } from '../common/files/file-system.ts';

const FILE = 'listen-port';

/**
 * Returns the default listen address of a daemon. It has the port of the daemon's last start, so that the daemon's
 * addresses and invites stay valid after a restart. For the first start it has port 0, which takes any free port.
 */
export async function defaultListen(home: string): Promise<string[]> {
  const text = (await readFile(join(home, FILE), 'utf8').catch(nullIfMissing)) ?? '0';
  const port = Number.parseInt(text, 10);
  return [`/ip4/0.0.0.0/tcp/${Number.isInteger(port) && port > 0 && port < 65536 ? port : 0}`];
}

/** Saves the port of the daemon's first address for {@link defaultListen}. */
export async function rememberListen(home: string, addresses: readonly string[]): Promise<void> {
  const port = /\/tcp\/(\d+)/.exec(addresses[0] ?? '')?.[1];
  if (port !== undefined) await writeDurably(join(home, FILE), `${port}\n`);
}
