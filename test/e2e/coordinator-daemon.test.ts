import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../common/time/system-clock.ts';
import { startCoordinator } from '../../coordinator/daemon.ts';
import type { CoordinatorDaemonOptions, RunningCoordinator } from '../../coordinator/daemon-options.ts';
import { checkJob } from '../../coordinator/jobs/check-job.ts';
import type { WebhookTest } from '../../coordinator/webhooks/webhooks.ts';
import { type JobSpecInput, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { decodeInvite } from '../../protocol/access/invite.ts';
import type { CoordinatorStatus, JobDetail } from '../../protocol/api/coordinator.ts';
import type { CreateJobLine } from '../../protocol/api/job-creation.ts';
import type { DaemonFile } from '../../storage/daemon-home.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';
import { expectMode } from '../utils/source/platform.ts';

async function start(
  home: string,
  listen: Pick<CoordinatorDaemonOptions, 'listen' | 'webhooks'> = { listen: ['/ip4/127.0.0.1/tcp/0'] },
): Promise<RunningCoordinator> {
  const options = { home, version: 'test', mdns: false, ...listen };
  const daemon = await startCoordinator(options, { log: silentLogger });
  onTestFinished(() => daemon.stop({ deadlineMs: 4_000 }));
  return daemon;
}

async function ask(home: string, path: string, body?: unknown): Promise<Response> {
  const { url } = JSON.parse(await readFile(join(home, 'coordinator.json'), 'utf8')) as DaemonFile;
  const token = (await readFile(join(home, 'api-token'), 'utf8')).trim();
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return fetch(
    url + path,
    body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) },
  );
}

async function create(home: string, spec: JobSpecInput): Promise<CreateJobLine[]> {
  const text = await (await ask(home, '/v1/jobs', spec)).text();
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as CreateJobLine);
}

async function specIn(folder: string): Promise<JobSpecInput> {
  const base = await makeTinyModel(join(folder, 'tiny'));
  const train = join(folder, 'data.jsonl');
  const texts = Array.from({ length: 12 }, (_, i) => JSON.stringify({ text: `${i} ${TINY_TEXT}` }));
  await writeFile(train, texts.join('\n'));
  return {
    name: 'times',
    base,
    data: { train, heldOut: 0.2 },
    lora: { rank: 2, alpha: 4 },
    training: { sequenceLength: 32, batchSize: 2, microBatch: 2 },
    admission: 'invite',
  };
}

test('a coordinator sends a test to its webhooks, and shows no secret of their URLs', async () => {
  const home = join(await temporaryFolder(), 'home');
  const requests: string[] = [];
  const receiver = createServer((request, response) => {
    requests.push(`${request.url} ${request.headers['webhook-signature']}`);
    response.writeHead(204).end();
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void receiver.close());
  const origin = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  const webhooks = [{ url: `${origin}/hook?token=secret`, allowPrivate: true }, { url: `${origin}/private` }];
  await start(home, { listen: ['/ip4/127.0.0.1/tcp/0'], webhooks });
  const { results } = (await (await ask(home, '/v1/webhooks/test', {})).json()) as { results: WebhookTest[] };
  expect(results).toMatchObject([
    { url: `${origin}/…`, attempt: { ok: true, status: 204 } },
    { url: `${origin}/…`, attempt: { ok: false, status: null, reason: expect.stringContaining('private') } },
  ]);
  expect(requests).toEqual([expect.stringMatching(/^\/hook\?token=secret v1,.{44}$/)]);
  expect(await (await ask(home, '/v1/webhooks')).text()).not.toContain('token');
});

test('a coordinator keeps its port over a restart, so that invites stay valid', async () => {
  const home = join(await temporaryFolder(), 'home');
  const portOf = ({ addresses }: RunningCoordinator): string | undefined =>
    /\/tcp\/(\d+)/.exec(addresses[0] ?? '')?.[1];
  const first = await start(home);
  await first.stop({ deadlineMs: 4_000 });
  expect(portOf(await start(home, {}))).toBe(portOf(first));
});

test('a home has one coordinator, and only its owner can read its files', async () => {
  const home = join(await temporaryFolder(), 'home');
  const daemon = await start(home);
  await expect(start(home)).rejects.toMatchObject({ code: 'HOME_LOCKED', values: { pid: process.pid } });
  const file = JSON.parse(await readFile(join(home, 'coordinator.json'), 'utf8')) as DaemonFile;
  expect(file).toMatchObject({
    role: 'coordinator',
    pid: process.pid,
    url: daemon.url,
    peerId: daemon.peerId,
  });
  for (const name of ['coordinator.json', 'api-token', 'identity']) {
    await expectMode(join(home, name), 0o600);
  }
  expect((await ask(home, '/v1/shutdown', {})).status).toBe(200);
  await daemon.stopped;
  expect(await readdir(home)).not.toContain('coordinator.json');
  const again = await start(home);
  expect(again.peerId).toBe(daemon.peerId);
});

test('a job is created from files, survives a restart, and is not created twice', {
  timeout: 60_000,
}, async () => {
  const folder = await temporaryFolder();
  const home = join(folder, 'home');
  const first = await start(home);
  const spec = await specIn(folder);
  const lines = await create(home, spec);
  const created = lines.at(-1)!;
  if (created.event !== 'created') throw new Error(JSON.stringify(created));
  const stages = lines.flatMap((line) => (line.event === 'progress' ? [line.stage] : []));
  expect([...new Set(stages)]).toEqual(['base', 'data', 'adapter', 'baseline']);
  const { token, job } = decodeInvite(created.invite);
  expect(job).toBe(created.job);
  expect(token).toMatch(/^[A-Za-z0-9_-]{22}$/);
  expect(await readdir(join(home, 'checkpoints', 'times', '0000'))).toContain('adapter_model.safetensors');

  const blobs = async (): Promise<string[]> =>
    (await readdir(join(home, 'blobs'), { recursive: true })).filter((name) => /[0-9a-f]{64}$/.test(name));
  const needed = await blobs();
  const again = (await create(home, spec)).at(-1);
  expect(again).toEqual({ ...created, isNew: false });
  const other = (await create(home, { ...spec, seed: 1 })).at(-1);
  expect(other).toMatchObject({ event: 'error', code: 'JOB_EXISTS' });
  const lost = (await create(home, { ...spec, name: 'lost', base: join(folder, 'nowhere') })).at(-1);
  expect(lost).toMatchObject({ event: 'error', code: 'MODEL_DIR' });
  const long = { ...spec, name: 'long', training: { ...spec.training, sequenceLength: 128 } };
  expect((await create(home, long)).at(-1)).toMatchObject({ event: 'error', code: 'SEQUENCE_TOO_LONG' });

  expect(await blobs(), 'nothing is left of these').toEqual(needed);

  const before = (await (await ask(home, '/v1/jobs/times')).json()) as JobDetail;
  // A dry run must find the same numbers of rows, tokens and parameters as the job that was really created.
  const cacheDir = join(folder, 'cache');
  const options = { cacheDir, signal: new AbortController().signal, onProgress: () => {} };
  const check = await checkJob(parseJobSpec(spec), options, { clock: systemClock });
  const { data, adapter } = before.manifest;
  expect(check).toMatchObject({
    data: { rows: data.rows, tokens: data.tokens, heldOut: { rows: data.heldOut.rows } },
    adapter: { parameters: adapter.parameters },
  });
  expect(before.baseLoss).toBeGreaterThan(3);
  expect(before).toMatchObject({ phase: 'waiting', heldOutLoss: before.baseLoss, checkpoint: { round: 0 } });
  await first.stop({ deadlineMs: 4_000 });
  // Leaves an empty folder of a base and an empty file of weights, as a power failure during the creation of a job may
  // do. The next start must delete both.
  await mkdir(join(home, 'bases', 'ab'.repeat(32)));
  await writeFile(join(home, 'cache', `${'ab'.repeat(32)}.f32`), '');
  const { digest } = before.manifest.base;
  await start(home);
  expect(await readdir(join(home, 'bases'))).toEqual([digest]);
  expect(await readdir(join(home, 'cache'))).toEqual([`${digest}.f32`]);
  const { jobs } = (await (await ask(home, '/v1/status')).json()) as CoordinatorStatus;
  expect(jobs).toHaveLength(1);
  expect(jobs[0]).toMatchObject({
    job: created.job,
    baseLoss: before.baseLoss,
    checkpoint: before.checkpoint,
  });
  expect(decodeInvite(jobs[0]!.invite!).token).toBe(token);
});
