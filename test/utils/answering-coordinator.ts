import { writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';

/**
 * Starts a server that answers requests in place of a coordinator's API. It stops when the test ends.
 * @returns the home of the coordinator
 */
export async function answeringCoordinator(answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  onTestFinished(() => void server.close());
  const home = await temporaryFolder();
  const { port } = server.address() as AddressInfo;
  const about = { url: `http://127.0.0.1:${port}`, pid: 1 };
  await writeFile(join(home, 'coordinator.json'), JSON.stringify(about));
  await writeFile(join(home, 'api-token'), 'token');
  return home;
}
