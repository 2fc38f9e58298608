import { readdir, readFile, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Logger } from '../../common/logger.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { startCoordinator } from '../../coordinator/daemon.ts';
import { createLogger, silentLogger } from '../../monitor/logs/log.ts';
import { parseLevels } from '../../monitor/logs/log-levels.ts';
import { type RunningNode, startNode } from '../../node/daemon/daemon.ts';
import type { NodeStatus } from '../../protocol/api/node.ts';
import type { DaemonFile } from '../../storage/daemon-home.ts';
import { eventually } from '../utils/eventually.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';
import { expectMode } from '../utils/source/platform.ts';
import { signerOf } from '../utils/swarm/signers.ts';

/** An address without a listener: the discard port. */
const NO_LISTENER = `/ip4/127.0.0.1/tcp/9/p2p/${signerOf(9).peerId}`;

async function start(
  home: string,
  addresses: readonly string[] = [NO_LISTENER],
  log: Logger = silentLogger,
): Promise<RunningNode> {
  const node = await startNode(
    {
      home,
      addresses,
      name: 'alone',
      version: 'test',
      listen: ['/ip4/127.0.0.1/tcp/0'],
      mdns: false,
      compute: { threads: 1 },
    },
    { log },
  );
  onTestFinished(() => node.stop({ deadlineMs: 4_000 }));
  return node;
}

/**
 * Sends a request with this Host header, and returns the status code. Uses `node:http`, because `fetch` sets the header
 * itself.
 */
function statusWithHost(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(url, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
}

test('a node without a coordinator is alive but not ready, gives the reason, and locks its home', async () => {
  const home = join(await temporaryFolder(), 'home');
  const node = await start(home);
  const file = JSON.parse(await readFile(join(home, 'node.json'), 'utf8')) as DaemonFile;
  expect(file).toMatchObject({ role: 'node', pid: process.pid, url: node.url, peerId: node.peerId });
  await expectMode(join(home, 'node.json'), 0o600);

  expect((await fetch(`${node.url}/healthz`)).status).toBe(200);
  const readyz = await fetch(`${node.url}/readyz`);
  expect(readyz.status).toBe(503);
  expect(await readyz.json()).toMatchObject({ failing: [{ check: 'job' }, { check: 'coordinator' }] });
  expect(await (await fetch(`${node.url}/metrics`)).text()).toContain('swarm_node_state{state="joining"} 1');
  expect((await fetch(`${node.url}/v1/status`)).status).toBe(401);
  await expectMode(join(home, 'api-token'), 0o600);
  const status = await statusOf(node);
  expect(status).toMatchObject({ role: 'node', name: 'alone', state: 'joining', job: null, updates: [] });
  expect(status.coordinator).toMatchObject({ addresses: [NO_LISTENER], peer: null, connected: false });
  expect(await statusWithHost(`${node.url}/v1/status`, 'evil.example')).toBe(403);

  await expect(start(home)).rejects.toMatchObject({ code: 'HOME_LOCKED', values: { pid: process.pid } });
  await node.stop({ deadlineMs: 5_000 });
  expect(await readdir(home)).not.toContain('node.json');
  const again = await start(home);
  expect(again.peerId).toBe(node.peerId);
});

test('the log level of the module "net" applies to the network', async () => {
  const lines: { level: string; module?: string }[] = [];
  const sink = { write: (line: string) => lines.push(JSON.parse(line)) };
  const outputs = [{ sink, levels: parseLevels('error,net=debug', 'info'), format: 'json' as const }];
  await start(await temporaryFolder(), [NO_LISTENER], createLogger({ outputs }, { clock: systemClock }));
  await eventually(() => lines.some(({ level }) => level === 'debug' || level === 'warn'));
  expect(new Set(lines.map(({ module }) => module))).toEqual(new Set(['net']));
});

async function statusOf(node: RunningNode): Promise<NodeStatus> {
  const token = (await readFile(join(node.home, 'api-token'), 'utf8')).trim();
  const headers = { authorization: `Bearer ${token}` };
  return (await (await fetch(`${node.url}/v1/status`, { headers })).json()) as NodeStatus;
}

test('a node with an empty home fetches base and data, trains its rounds, and ends with the adapter', {
  timeout: 120_000,
}, async () => {
  const folder = await temporaryFolder();
  const home = join(folder, 'coordinator');
  const coordinator = await startCoordinator(
    { home, version: 'test', mdns: false, listen: ['/ip4/127.0.0.1/tcp/0'] },
    { log: silentLogger },
  );
  onTestFinished(() => coordinator.stop({ deadlineMs: 4_000 }));
  const nodeHome = join(folder, 'node');
  const node = await start(nodeHome, coordinator.addresses);
  const train = join(folder, 'data.jsonl');
  const texts = Array.from({ length: 12 }, (_, i) => JSON.stringify({ text: `${i} ${TINY_TEXT}` }));
  await writeFile(train, texts.join('\n'));
  const token = (await readFile(join(home, 'api-token'), 'utf8')).trim();
  const created = await fetch(`${coordinator.url}/v1/jobs`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      name: 'times',
      base: await makeTinyModel(join(folder, 'tiny')),
      data: { train, heldOut: 0.2 },
      lora: { rank: 2, alpha: 4 },
      training: { sequenceLength: 32, batchSize: 2, microBatch: 2 },
      rounds: { count: 2, localSteps: 3, minPeers: 1 },
      acceptance: { tolerance: 1 },
    }),
  });
  expect(await created.text()).toContain('"created"');

  const done = await eventually(
    async () => {
      const status = await statusOf(node);
      const over = status.job?.phase === 'finished' && status.updates.every(({ outcome }) => outcome);
      return over ? status : null;
    },
    { timeout: 90_000, what: 'the end of the job' },
  );
  // On a busy machine, some rounds may be null rounds. The job makes two checkpoints in any case, so two updates count.
  const counted = done.updates.filter(({ outcome }) => outcome === 'counted');
  expect(counted.map(({ code }) => code)).toEqual(['accepted', 'accepted']);
  expect(done.job).toMatchObject({ name: 'times', checkpoint: { round: counted[0]!.round } });
  expect(done.tokensPerSecond).toBeGreaterThan(0);
  expect(done.traffic.received).toBeGreaterThan(10_000);
  expect((await fetch(`${node.url}/readyz`)).status).toBe(200);
  expect(await (await fetch(`${node.url}/metrics`)).text()).toContain(
    'swarm_updates_total{code="accepted"} 2',
  );
  expect(await readdir(join(nodeHome, 'bases', done.job!.base.digest))).toContain('model.safetensors');

  await coordinator.stop({ deadlineMs: 4_000 });
  const failing = await eventually(
    async () => {
      const readyz = await fetch(`${node.url}/readyz`);
      return readyz.status === 503 ? await readyz.json() : null;
    },
    { timeout: 20_000, what: 'a node without its coordinator is not ready' },
  );
  expect(failing).toMatchObject({ failing: [{ check: 'coordinator' }] });
});
