import { readdir, readFile, stat } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { DaemonFile } from '../../../coordinator/api-types.ts';
import { silentLogger } from '../../../monitor/log.ts';
import type { NodeStatus } from '../../../node/api-types.ts';
import { type RunningNode, startNode } from '../../../node/daemon.ts';
import { isSwarmError } from '../../../protocol/errors.ts';
import { signerOf } from '../../sim/process.ts';
import { temporaryFolder } from '../../utils/folder.ts';

/** Nobody listens on the discard port. */
const NOBODY = `/ip4/127.0.0.1/tcp/9/p2p/${signerOf(9).peerId}`;

async function start(home: string): Promise<RunningNode> {
  const node = await startNode(
    {
      home,
      addresses: [NOBODY],
      name: 'alone',
      version: 'test',
      listen: ['/ip4/127.0.0.1/tcp/0'],
      mdns: false,
      threads: 1,
    },
    { log: silentLogger },
  );
  onTestFinished(() => node.stop({ deadlineMs: 4_000 }));
  return node;
}

/** `fetch` sets the Host header by itself. */
function statusWithHost(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(url, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

test('a node alone is alive but not ready, says why, and keeps its home to itself', async () => {
  const home = join(await temporaryFolder(), 'home');
  const node = await start(home);
  const file = JSON.parse(await readFile(join(home, 'node.json'), 'utf8')) as DaemonFile;
  expect(file).toMatchObject({ role: 'node', pid: process.pid, url: node.url, peerId: node.peerId });
  expect((await stat(join(home, 'node.json'))).mode & 0o777).toBe(0o600);

  expect((await fetch(`${node.url}/healthz`)).status).toBe(200);
  expect((await fetch(`${node.url}/readyz`)).status).toBe(503);
  expect(await (await fetch(`${node.url}/metrics`)).text()).toContain('swarm_node_state{state="joining"} 1');
  const status = (await (await fetch(`${node.url}/v1/status`)).json()) as NodeStatus;
  expect(status).toMatchObject({ role: 'node', name: 'alone', state: 'joining', job: null, updates: [] });
  expect(status.coordinator).toEqual({ addresses: [NOBODY], peer: null, connected: false });
  expect(await statusWithHost(`${node.url}/v1/status`, 'evil.example')).toBe(403);

  await expect(start(home)).rejects.toSatisfy(
    (error) => isSwarmError(error, 'HOME_LOCKED') && error.values.pid === process.pid,
  );
  const before = performance.now();
  await node.stop({ deadlineMs: 5_000 });
  expect(performance.now() - before).toBeLessThan(5_000);
  expect(await readdir(home)).not.toContain('node.json');
  const again = await start(home);
  expect(again.peerId).toBe(node.peerId);
});
