import { request as httpRequest } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { systemClock } from '../../../../common/time/system-clock.ts';
import { API_BODY_BYTES, startApi } from '../../../../coordinator/api/server.ts';
import { Views } from '../../../../coordinator/api/views.ts';
import { CheckpointTags } from '../../../../coordinator/jobs/checkpoint-tags.ts';
import { Sweeps } from '../../../../coordinator/jobs/sweeps.ts';
import { pendingOrders } from '../../../../coordinator/round/job-phase.ts';
import { Webhooks } from '../../../../coordinator/webhooks/webhooks.ts';
import type { JobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import { Health } from '../../../../monitor/health.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { createCoordinatorMetrics } from '../../../../monitor/metrics/coordinator-metrics.ts';
import { SLOW_SECONDS } from '../../../../monitor/peer-health.ts';
import { decodeInvite } from '../../../../protocol/access/invite.ts';
import type {
  CheckpointView,
  CoordinatorStatus,
  CreatedInvite,
  InviteView,
  JobDetail,
  JobSummary,
} from '../../../../protocol/api/coordinator.ts';
import type { CreateJobLine, NewPlace } from '../../../../protocol/api/job-creation.ts';
import type { BanView, PeerReceipts, PeerView } from '../../../../protocol/api/peers.ts';
import { verifyMessage } from '../../../../protocol/signing.ts';
import { eventuallyHolds } from '../../../utils/eventually.ts';
import { MemoryBlobs } from '../../../utils/virtual/memory-blobs.ts';
import { noFolders } from '../../../utils/virtual/no-folders.ts';
import { ScriptedPeer, training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

const TOKEN = 'a-token-of-the-right-kind';
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Starts the real API for a virtual coordinator. */
async function api(
  world: World,
  createJob?: (spec: JobSpec, place: NewPlace, onLine: (line: CreateJobLine) => void) => Promise<void>,
) {
  const { clock, store, disk, random } = world;
  const blobs = new MemoryBlobs({ disk, clock, random, isAlive: () => true });
  const network = world.network.host({ signer: COORDINATOR, blobs, isAlive: () => true });
  const deps = { coordinator: world.coordinator, network, store, blobs, folders: noFolders, clock };
  const views = new Views({ version: 'test', startedAt: clock.now() }, deps);
  const metrics = createCoordinatorMetrics({
    version: 'test',
    traffic: () => network.traffic(),
    connections: () => 0,
    jobs: () => views.jobs(),
    intakeQueues: () => views.intakeQueues(),
  });
  const stopping = new AbortController();
  let shutdowns = 0;
  const { url, server } = await startApi(
    { port: 0, token: TOKEN },
    {
      ...deps,
      blobs,
      views,
      health: new Health({ clock: systemClock }),
      registry: metrics.registry,
      log: silentLogger,
      signal: stopping.signal,
      creation: {
        create: createJob ?? (async () => {}),
        clone: async (job, options, onLine) =>
          onLine({ event: 'created', job, name: JSON.stringify(options), invite: 'i', isNew: true }),
      },
      sweeps: new Sweeps({ ...deps, log: silentLogger }),
      tags: new CheckpointTags({ registry: null }, { ...deps, signer: COORDINATOR }),
      webhooks: new Webhooks(
        { targets: [] },
        { ...deps, log: silentLogger, post: async () => 200, version: 'test' },
      ),
      checkJob: async ({ name }, onLine) => onLine({ event: 'checked', check: `of ${name}` as never }),
      shutdown: () => shutdowns++,
    },
  );
  closers.push(
    metrics.stop,
    () => server.close(),
    () => stopping.abort(),
  );
  const call = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(url + path, { ...init, headers: { authorization: `Bearer ${TOKEN}`, ...init.headers } });
  const post = (path: string, body: unknown): Promise<Response> =>
    call(path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
  return { url, call, post, stopping, shutdowns: () => shutdowns };
}

/** Reads an answer as JSON. Its type is the caller's claim and is not checked. */
async function json<T>(response: Promise<Response>): Promise<T> {
  return (await (await response).json()) as T;
}

async function statusAndCode(response: Response): Promise<[number, string]> {
  const { code } = (await response.json()) as { code: string };
  return [response.status, code];
}

/** Sends a request with this Host header, which `fetch` does not allow. */
function answerFor(url: string, host: string): Promise<{ status: number; body: object }> {
  return new Promise((resolve, reject) => {
    const headers = { host, authorization: `Bearer ${TOKEN}` };
    httpRequest(`${url}/v1/status`, { headers }, async (response) => {
      resolve({ status: response.statusCode!, body: JSON.parse(await text(response)) });
    })
      .on('error', reject)
      .end();
  });
}

describe('access to the API', () => {
  test('needs the token: 401', async () => {
    const { url } = await api(await new World().start());
    const tries = [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${TOKEN}` },
      { authorization: TOKEN },
    ];
    for (const headers of tries) {
      const response = await fetch(`${url}/v1/status`, { headers });
      expect(await statusAndCode(response)).toEqual([401, 'UNAUTHORISED']);
    }
    const unknown = await fetch(`${url}/v1/nothing`);
    expect(unknown.status).toBe(401);
  });

  test('refuses a web page whose host name points at this machine: 403', async () => {
    const { url } = await api(await new World().start());
    for (const host of ['evil.example', 'evil.example:1234']) {
      const body = { code: 'HOST_REFUSED', kind: 'refused', next: expect.stringContaining('127.0.0.1') };
      expect(await answerFor(url, host)).toMatchObject({ status: 403, body });
    }
    expect(await answerFor(url, 'localhost:1234')).toMatchObject({ status: 200 });
  });

  test('answers every refusal with code, kind and advice, also of a malformed path', async () => {
    const { call, post } = await api(await new World().start());
    const refused = (body: string, type = 'application/json'): Promise<Response> =>
      call('/v1/jobs', { method: 'POST', body, headers: { 'content-type': type } });
    const answers: [Promise<Response>, number, string][] = [
      [call('/v1/jobs/%ff'), 400, 'BAD_URL'],
      [refused(''), 400, 'EMPTY_JSON_BODY'],
      [refused('{'), 400, 'INVALID_JSON_BODY'],
      [refused('{}', 'text/plain'), 415, 'INVALID_MEDIA_TYPE'],
      [post('/v1/jobs', { name: 'x'.repeat(API_BODY_BYTES) }), 413, 'BODY_TOO_LARGE'],
    ];
    for (const [answer, status, code] of answers) {
      const response = await answer;
      expect(response.status, code).toBe(status);
      const body = (await response.json()) as object;
      expect(Object.keys(body).sort()).toEqual(['code', 'kind', 'message', 'next', 'values']);
      expect(body).toMatchObject({ code, kind: 'usage' });
    }
  });

  test('needs no token for probes and scrapers', async () => {
    const { url } = await api(await new World().start());
    for (const path of ['/healthz', '/readyz', '/metrics'])
      expect((await fetch(url + path)).status, path).toBe(200);
  });

  test('refuses content types that a web page can send without a preflight request: 415', async () => {
    const { call } = await api(await new World().start());
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
    ]) {
      const response = await call('/v1/jobs', {
        method: 'POST',
        body: '{}',
        headers: { 'content-type': type },
      });
      expect(response.status, type).toBe(415);
    }
  });

  test('limits the size of bodies: 413', async () => {
    const { post } = await api(await new World().start());
    expect((await post('/v1/jobs', { name: 'x'.repeat(API_BODY_BYTES) })).status).toBe(413);
  });

  test('refuses a body that is not JSON or not a job: 400', async () => {
    const { call, post } = await api(await new World().start());
    const broken = await call('/v1/jobs', {
      method: 'POST',
      body: '{',
      headers: { 'content-type': 'application/json' },
    });
    expect(broken.status).toBe(400);
    expect(await statusAndCode(await post('/v1/jobs', { nmae: 'x' }))).toEqual([400, 'JOB_SPEC']);
  });
});

describe('the API', () => {
  test('returns status, jobs, peers and receipts', async () => {
    const world = new World({ rounds: { minPeers: 2 }, admission: { kind: 'invite' }, token: 'secret' });
    await world.start();
    const peer = new ScriptedPeer(1, world);
    await peer.join('secret');
    // Since the node joined, it has chosen its engine.
    await peer.heartbeat('awaiting', { engine: 'onnx-cpu' });
    await peer.submit(Uint8Array.of(1, 2, 3));
    const { call } = await api(world);
    const status = await json<CoordinatorStatus>(call('/v1/status'));
    expect(status).toMatchObject({
      role: 'coordinator',
      peerId: COORDINATOR.peerId,
      jobs: [{ name: 'toy', phase: 'waiting', round: 1, rounds: 8, peers: 1, secondsLeft: null }],
    });
    expect(decodeInvite(status.jobs[0]!.invite!)).toMatchObject({ job: world.toy.job, token: 'secret' });
    const { peers } = await json<{ peers: PeerView[] }>(call('/v1/peers'));
    expect(peers).toMatchObject([
      { peer: peer.id, jobName: 'toy', state: 'awaiting', engine: 'onnx-cpu', accepted: 0, refused: 1 },
    ]);
    const why = await json<PeerReceipts>(call(`/v1/peers/${peer.id}`));
    expect(why.receipts).toMatchObject([{ code: 'malformed', round: 1 }]);
    expect(why.receipts[0]!.meaning).not.toBe('');
    expect(await statusAndCode(await call('/v1/peers/nobody'))).toEqual([400, 'REQUEST_INVALID']);
  });

  test('shows no fault of a node whose update was not merged because of a pause', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers: nodes, head } = await training(world, 2);
    await nodes[0]!.submit(nodes[0]!.seal(nodes[0]!.update(head)));
    const { call, post } = await api(world);
    const counts = { peer: nodes[0]!.id, refused: 0 };
    const shown = async () => (await json<{ peers: PeerView[] }>(call('/v1/peers'))).peers;
    expect(await shown()).toContainEqual(expect.objectContaining({ ...counts, accepted: 1, unmerged: 0 }));
    await post('/v1/jobs/toy/pause', { reason: 'new data' });
    await world.until(() => world.run.driver.state.phase === 'paused', 'the pause');
    const view = (await shown()).find(({ peer }) => peer === counts.peer)!;
    expect(view).toMatchObject({ ...counts, accepted: 0, unmerged: 1, last: { code: 'null-round' } });
    expect(view.health).toEqual({
      level: 'green',
      reason: expect.stringContaining(view.last!.detail),
      next: '',
    });
    world.run.receipts.recount(counts.peer);
    expect(world.run.receipts.tally(counts.peer)).toMatchObject({ accepted: 0, refused: 0, unmerged: 1 });
  });

  test('bans and pardons peers, and tells why', async () => {
    const world = await new World().start();
    const { call, post } = await api(world);
    const { id } = new ScriptedPeer(1, world);
    const node = { name: 'p', agent: 'test', engine: 'none', sentAt: world.clock.now(), invite: null };
    world.run.members.join(id, node);
    const { peers, bans } = await json<{ peers: PeerView[]; bans: BanView[] }>(call('/v1/peers'));
    expect(peers).toMatchObject([{ peer: id, standing: 'good' }]);
    expect(bans).toEqual([]);
    const until = world.clock.now() + 60_000;
    const banned = await json<PeerReceipts>(
      post(`/v1/peers/${id}/ban`, { reason: 'testing', forMs: 60_000, job: 'toy' }),
    );
    const ban = { peer: id, person: id, job: world.toy.job, cause: 'operator', reason: 'testing', until };
    expect(banned.bans).toMatchObject([{ ...ban, pardonedAt: null }]);
    expect(banned.standings).toMatchObject([{ jobName: 'toy', standing: 'banned', untilRound: null }]);
    expect(await json(call('/v1/peers'))).toMatchObject({
      peers: [],
      bans: [{ ...ban, name: 'p', inviteName: null, jobName: 'toy' }],
    });
    const pardoned = await json<PeerReceipts>(post(`/v1/peers/${id}/pardon`, { job: 'toy' }));
    expect(pardoned.bans).toMatchObject([{ ...ban, pardonedAt: world.clock.now() }]);
    expect(await json(call('/v1/peers'))).toMatchObject({ bans: [], former: [{ peer: id, name: 'p' }] });
    world.run.ledger.strike(
      id,
      { kind: 'audit', round: 1, digest: null, figures: { distance: 2 } },
      { event: () => {}, afterwards: () => {} },
    );
    const { strikes } = await json<PeerReceipts>(call(`/v1/peers/${id}`));
    expect(strikes).toMatchObject([{ kind: 'audit', figures: { distance: 2 }, receipt: null }]);
    expect(strikes[0]!.meaning).not.toBe('');
    for (const wrong of [{ forMs: 0 }, { reason: 'x'.repeat(201) }, { until: 1 }]) {
      expect(await statusAndCode(await post(`/v1/peers/${id}/ban`, wrong))).toEqual([400, 'REQUEST_INVALID']);
    }
    expect(await statusAndCode(await post(`/v1/peers/${id}/ban`, { job: 'none' }))).toEqual([
      404,
      'JOB_UNKNOWN',
    ]);
    expect(await statusAndCode(await post('/v1/peers/nobody/pardon', {}))).toEqual([400, 'REQUEST_INVALID']);
  });

  test('creates, lists and revokes invites of a job, and shows the text of one only once', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const { call, post } = await api(world);
    const request = { name: 'ada', role: 'observer', uses: 2, lifetimeMs: 60_000 };
    const created = await json<CreatedInvite>(post('/v1/jobs/toy/invites', request));
    const expiresAt = world.clock.now() + 60_000;
    const facts = { name: 'ada', role: 'observer', state: 'active', uses: 2, used: 0, expiresAt, nodes: [] };
    expect(created).toMatchObject(facts);
    const { token, job } = decodeInvite(created.text);
    expect(job).toBe(world.toy.job);
    const peer = new ScriptedPeer(1, world);
    // The host of the API has replaced the coordinator's host. The request therefore does not go over the network.
    const node = { name: 'p', agent: 'test', engine: 'none', sentAt: world.clock.now() };
    world.run.members.join(peer.id, { ...node, invite: token });
    const defaults = await json<CreatedInvite>(post('/v1/jobs/toy/invites', {}));
    expect(defaults).toMatchObject({ name: null, role: 'contributor', uses: 1 });
    expect(defaults.expiresAt! - world.clock.now()).toBe(7 * 24 * 3_600_000);
    const answer = await call('/v1/jobs/toy/invites');
    const listed = await answer.text();
    expect(listed).not.toContain(token!);
    const { invites } = JSON.parse(listed) as { invites: InviteView[] };
    expect(invites).toMatchObject([
      { id: 'shared', state: 'active', uses: null, used: 0 },
      { ...facts, used: 1, nodes: [{ peer: peer.id, name: 'p' }] },
      { id: defaults.id },
    ]);
    const { peers } = await json<{ peers: PeerView[] }>(call('/v1/peers'));
    expect(peers).toMatchObject([{ peer: peer.id, person: `invite:${created.id}`, role: 'observer' }]);

    expect(await json(post('/v1/jobs/toy/invites/ada/revoke', {}))).toMatchObject({ state: 'revoked' });
    expect((await json<{ peers: PeerView[] }>(call('/v1/peers'))).peers).toEqual([]);
    expect(await json(call('/v1/jobs/toy/invites'))).toMatchObject({
      invites: [{}, { nodes: [{ peer: peer.id, name: 'p' }] }, {}],
    });
    const banned = await json<PeerReceipts>(post(`/v1/peers/${peer.id}/ban`, {}));
    expect(banned.bans).toMatchObject([{ name: 'p', inviteName: 'ada' }]);
    expect(await json(post('/v1/jobs/toy/invites/shared/revoke', {}))).toMatchObject({ state: 'revoked' });
    expect((await json<CoordinatorStatus>(call('/v1/status'))).jobs[0]!.invite).toBeNull();

    const wrong: [Promise<Response>, number, string][] = [
      [post('/v1/jobs/toy/invites', { uses: 0 }), 400, 'REQUEST_INVALID'],
      [post('/v1/jobs/toy/invites', { role: 'admin' }), 400, 'REQUEST_INVALID'],
      [post('/v1/jobs/toy/invites', { token: 'mine' }), 400, 'REQUEST_INVALID'],
      [post('/v1/jobs/toy/invites/nobody/revoke', {}), 404, 'INVITE_UNKNOWN'],
      [post('/v1/jobs/other/invites', {}), 404, 'JOB_UNKNOWN'],
    ];
    for (const [answer, status, code] of wrong)
      expect(await statusAndCode(await answer)).toEqual([status, code]);
  });

  test('lists who has used the shared invite also after it was revoked, and each node once', async () => {
    const world = await new World({ admission: { kind: 'invite' }, token: 'secret' }).start();
    const { call, post } = await api(world);
    const [ada, bob] = [new ScriptedPeer(1, world), new ScriptedPeer(2, world)];
    const join = (peer: string, name: string): unknown =>
      world.run.members.join(peer, {
        name,
        agent: 'test',
        engine: 'none',
        sentAt: world.clock.now(),
        invite: 'secret',
      });
    join(ada.id, 'ada');
    await world.pass(1);
    join(bob.id, 'bob');
    const shared = async (): Promise<InviteView> =>
      (await json<{ invites: InviteView[] }>(call('/v1/jobs/toy/invites'))).invites[0]!;
    const before = await shared();
    expect(before.nodes.map(({ name }) => name)).toEqual(['ada', 'bob']);
    await post(`/v1/peers/${ada.id}/ban`, {});
    expect(await shared()).toEqual(before);
    await post(`/v1/peers/${ada.id}/pardon`, {});
    join(ada.id, 'ada');
    expect(await shared()).toMatchObject({ used: 2 });
    const revoked = await json<InviteView>(post('/v1/jobs/toy/invites/shared/revoke', {}));
    expect(revoked).toMatchObject({ state: 'revoked', used: 2, nodes: before.nodes });
    expect(await shared()).toEqual(revoked);
  });

  test('returns a job by name, with its manifest and deliveries; 404 for an unknown one', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers, head } = await training(world, 2);
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    const { call } = await api(world);
    const job = await json<JobDetail>(call('/v1/jobs/toy'));
    expect(job).toMatchObject({
      phase: 'collecting',
      manifest: { name: 'toy' },
      updates: { round: 1, received: [peers[0]!.id] },
    });
    expect(job.secondsLeft).toBeGreaterThan(0);
    expect(await statusAndCode(await call('/v1/jobs/other'))).toEqual([404, 'JOB_UNKNOWN']);
    expect(await statusAndCode(await call('/v1/nothing'))).toEqual([404, 'NOT_FOUND']);
  });

  test('shows which updates of a peer are merged', async () => {
    const world = new World({ rounds: { minPeers: 1 } });
    const { peers, head } = await training(world, 2);
    const [{ id }] = peers as [ScriptedPeer];
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    const { call, post } = await api(world);
    const receipts = async () => (await json<PeerReceipts>(call(`/v1/peers/${id}`))).receipts;
    expect(await receipts()).toMatchObject([{ code: 'accepted', isMerged: false }]);
    // The pause closes the round, whose update is then merged.
    await post('/v1/jobs/toy/pause', {});
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 1, 'the checkpoint');
    expect(await receipts()).toMatchObject([{ code: 'accepted', isMerged: true }]);
    // After the restore of an old backup, only the checkpoint and the receipt are there again.
    world.store.updates.remove(world.toy.job, 1, id);
    expect(await receipts()).toMatchObject([{ code: 'accepted', isMerged: true }]);
  });

  test('pauses, resumes and stops, with and without a reason; 409 when the job is over', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    await training(world, 2);
    const { call, post } = await api(world);
    expect(await (await post('/v1/jobs/toy/pause', { reason: 'lunch' })).json()).toMatchObject({
      phase: 'paused',
      reason: 'lunch',
    });
    const resumed = await json<JobSummary>(call('/v1/jobs/toy/resume', { method: 'POST' }));
    expect(resumed.phase).toBe('training');
    const stopped = await json<JobSummary>(post('/v1/jobs/toy/stop', {}));
    expect(stopped.phase).toBe('finished');
    // The stop ended round 2 early, but the number of rounds in the settings of the job stays the same.
    const { message: head } = verifyMessage('head', world.store.jobs.head(world.toy.job)!);
    const { count } = world.toy.manifest.rounds;
    expect(stopped).toMatchObject({
      round: head.round,
      rounds: count,
      roundsDone: head.checkpoint.ordinal,
    });
    expect(await statusAndCode(await post('/v1/jobs/toy/pause', {}))).toEqual([409, 'JOB_OVER']);
    expect(await statusAndCode(await post('/v1/jobs/toy/pause', { raeson: 'x' }))).toEqual([
      400,
      'REQUEST_INVALID',
    ]);
  });

  test('names orders that wait for the end of the round, until they are cancelled or carried out', async () => {
    const world = new World({ rounds: { minPeers: 1 } });
    const { peers, head } = await training(world, 2);
    await peers[0]!.submit(peers[0]!.seal(peers[0]!.update(head)));
    const { post } = await api(world);
    const pause = { action: 'pause', reason: 'lunch', to: null };
    const paused = await json<JobSummary>(post('/v1/jobs/toy/pause', { reason: 'lunch' }));
    expect(paused).toMatchObject({ phase: 'validating', pendingOrders: [pause] });
    const rolled = await json<JobSummary>(post('/v1/jobs/toy/rollback', { to: 0, reason: 'noise' }));
    expect(rolled.pendingOrders).toEqual([{ action: 'roll-back', reason: 'noise', to: 0 }, pause]);
    const resumed = await json<JobSummary>(post('/v1/jobs/toy/resume', {}));
    expect(resumed.pendingOrders).toMatchObject([{ action: 'roll-back' }]);
    await post('/v1/jobs/toy/stop', { reason: 'done' });
    await world.until(() => world.run.driver.state.phase === 'finished', 'the stop');
    expect(pendingOrders(world.run.driver.state)).toEqual([]);
  });

  test('says that a job is held after a restart of the coordinator', async () => {
    const world = new World({ rounds: { minPeers: 1 }, awaitsNodes: true });
    await training(world, 1);
    expect(() => world.kill()).toThrow();
    await world.start();
    const { call } = await api(world);
    const show = () => json<JobSummary>(call('/v1/jobs/toy'));
    expect(await show()).toMatchObject({ phase: 'training', isHeld: true });
    await world.until(() => !world.run.driver.isHeld, 'the end of the hold');
    expect(await show()).toMatchObject({ isHeld: false });
  });

  test('rolls back to a round or to the best checkpoint', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    await training(world, 2);
    const { post, call } = await api(world);
    expect(await json<JobSummary>(call('/v1/jobs/toy'))).toMatchObject({
      best: { round: 0, heldOutLoss: 1 },
      lowestLoss: 1,
      rolledBack: null,
    });
    expect(await json<JobSummary>(post('/v1/jobs/toy/rollback', { to: 'best' }))).toMatchObject({ round: 2 });
    await world.until(() => world.run.record.checkpoint.checkpoint.round === 2, 'the roll-back');
    expect(await json<JobSummary>(call('/v1/jobs/toy'))).toMatchObject({ rolledBack: { round: 2, to: 0 } });
    const { checkpoints } = await json<{ checkpoints: CheckpointView[] }>(call('/v1/jobs/toy/checkpoints'));
    expect(checkpoints.map(({ restores }) => restores)).toEqual([0, null]);
    const refused = (to: unknown) => post('/v1/jobs/toy/rollback', { to }).then(statusAndCode);
    expect(await refused(77)).toEqual([404, 'CHECKPOINT_UNKNOWN']);
    expect(await refused('worst')).toEqual([400, 'REQUEST_INVALID']);
  });

  test('streams events as lines, from any sequence number on, and follows new ones', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    await training(world, 2);
    const { call, stopping } = await api(world);
    const types = (text: string): string[] =>
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).type);
    const past = async (query: string): Promise<string[]> =>
      types(await (await call(`/v1/jobs/toy/events${query}`)).text());
    expect(await past('')).toEqual(['job-created', 'peer-joined', 'peer-joined', 'round-opened']);
    expect(await past('?after=3')).toEqual(['round-opened']);
    expect(await past('?types=job-created,round-opened')).toEqual(['job-created', 'round-opened']);
    expect(await past('?limit=2')).toEqual(['job-created', 'peer-joined']);
    expect(await past('?last=2')).toEqual(['peer-joined', 'round-opened']);
    expect(await past('?last=2&types=round-opened')).toEqual(['round-opened']);
    const following = await call('/v1/jobs/toy/events?after=3&follow=1');
    const reader = following.body!.pipeThrough(new TextDecoderStream()).getReader();
    expect(types((await reader.read()).value!)).toEqual(['round-opened']);
    world.run.operate({ type: 'pause', reason: '' });
    expect(types((await reader.read()).value!)).toContain('paused');
    stopping.abort();
    expect((await reader.read()).done).toBe(true);
  });

  test('calls a node that stands still unhealthy, and one that makes steps healthy', async () => {
    const world = new World({ rounds: { minPeers: 2 } });
    const { peers } = await training(world, 2);
    for (let second = 0; second < 2 * SLOW_SECONDS; second += 2) {
      await peers[0]!.heartbeat('training', { round: 1, step: second, steps: 500 });
      await peers[1]!.heartbeat('training', { round: 1, step: 7, steps: 500 });
      await world.pass(2_000);
    }
    // The API is started last, because its host takes the place of the coordinator's host, and would get the heartbeats.
    const { call } = await api(world);
    const { peers: views } = await json<{ peers: PeerView[] }>(call('/v1/peers'));
    const health = new Map(views.map(({ peer, health }) => [peer, health.level]));
    expect(health.get(peers[0]!.id)).toBe('green');
    expect(health.get(peers[1]!.id)).toBe('yellow');
  });

  test('checks a job file without creating a job', async () => {
    const world = new World();
    const { post } = await api(world);
    expect(await statusAndCode(await post('/v1/jobs/check', { name: 'x' }))).toEqual([400, 'JOB_SPEC']);
    const text = await (await post('/v1/jobs/check', { name: 'x', base: 'b', data: { train: 't' } })).text();
    expect(
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([{ event: 'checked', check: 'of x' }]);
  });

  test('returns checkpoints, and blobs as bytes', async () => {
    const world = await new World().start();
    const { call } = await api(world);
    const { checkpoints } = await json<{ checkpoints: CheckpointView[] }>(call('/v1/jobs/toy/checkpoints'));
    expect(checkpoints).toMatchObject([{ round: 0, parent: null, path: 'toy/0' }]);
    const latest = await json<CheckpointView>(call('/v1/jobs/toy/checkpoints/latest'));
    expect(latest).toEqual(checkpoints[0]);
    expect(await (await call('/v1/jobs/toy/checkpoints/0')).json()).toEqual(latest);
    const best = await json<CheckpointView>(call('/v1/jobs/toy/checkpoints/best'));
    expect(best).toMatchObject({ round: 0, isBest: true, tasks: null });
    const figures = { 'words.acc,none': 0.5 };
    world.store.tasks.add(world.toy.job, { round: 0, figures, score: null, reason: '', seconds: 1, at: 1 });
    expect(await json<CheckpointView>(call('/v1/jobs/toy/checkpoints/0'))).toMatchObject({
      tasks: { figures: { 'words.acc,none': 0.5 }, value: null, reason: '' },
    });
    const unknown = await call('/v1/jobs/toy/checkpoints/7');
    expect(unknown.status).toBe(404);
    expect(await unknown.json()).toMatchObject({
      code: 'CHECKPOINT_UNKNOWN',
      next: expect.stringContaining('lora-swarm checkpoint list toy'),
    });
    const blob = await call(`/v1/blobs/${latest.checkpoint.adapter.digest}`);
    expect(new Uint8Array(await blob.arrayBuffer())).toEqual(new Uint8Array(world.toy.initial));
    expect(await statusAndCode(await call(`/v1/blobs/${'ab'.repeat(32)}`))).toEqual([404, 'BLOB_MISSING']);
    expect((await call('/v1/blobs/..%2f..%2fidentity')).status).toBe(400);
  });

  test('streams the bundle of a job, and before that the progress of its checks if they are asked for', async () => {
    const { call } = await api(await new World().start());
    const bytes = async (path: string) => Buffer.from(await (await call(path)).arrayBuffer());
    const bundle = await bytes('/v1/jobs/toy/bundle');
    const answer = await bytes('/v1/jobs/toy/bundle?progress=1');
    const start = answer.length - bundle.length;
    expect(Buffer.compare(answer.subarray(start), bundle)).toBe(0);
    const lines = answer.toString('utf8', 0, start).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { event: 'progress', checked: 0, blobs: 1, repairing: null },
      { event: 'bundle' },
    ]);
    const empty = await bytes('/v1/jobs/toy/bundle?progress=1&blobs=0');
    expect(empty.toString('utf8', 0, 19)).toBe('{"event":"bundle"}\n');
  });

  test('streams the creation of a job: progress, then the job or the error', async () => {
    const spec = { name: 'new', base: '/base', data: { train: '/data' } };
    const good = await api(await new World().start(), async ({ rounds }, place, onLine) => {
      expect(rounds.count).toBe(8);
      expect(place).toEqual({ priority: -2, after: 'toy' });
      onLine({ event: 'progress', stage: 'base', done: 1, total: 2 });
      onLine({ event: 'created', job: 'j', name: 'new', invite: 'i', isNew: true });
    });
    const response = await good.post('/v1/jobs?priority=-2&after=toy', spec);
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).event);
    expect(lines).toEqual(['progress', 'created']);
    const bad = await api(await new World().start(), async () => {
      throw new SwarmError('JOB_EXISTS', 'there is one', { name: 'new' });
    });
    expect((await bad.post('/v1/jobs?priority=9999', spec)).status).toBe(400);
    const last = JSON.parse((await (await bad.post('/v1/jobs', spec)).text()).trim());
    expect(last).toEqual({
      event: 'error',
      code: 'JOB_EXISTS',
      message: 'there is one',
      values: { name: 'new' },
      kind: 'failed',
      next: null,
    });
  });

  test('changes settings: 400 for one that cannot change, 409 when the job is over', async () => {
    const world = await new World({ rounds: { count: 8 } }).start();
    const { post } = await api(world);
    const change = (changes: object): Promise<Response> => post('/v1/jobs/toy/settings', { changes });
    const detail = await json<JobDetail>(change({ 'rounds.count': 9, priority: 3 }));
    expect(detail).toMatchObject({
      rounds: 9,
      priority: 3,
      settings: { count: 9 },
      settingsChanges: [{ fromRound: 1, changes: [{ key: 'rounds.count', before: 8, after: 9 }] }],
      manifest: { rounds: { count: 8 } },
    });
    expect(detail.newestChange).toEqual(detail.settingsChanges[0]);
    expect(await statusAndCode(await change({ 'lora.rank': 4 }))).toEqual([400, 'SETTING_FIXED']);
    expect(await statusAndCode(await change({ 'rounds.kount': 4 }))).toEqual([400, 'JOB_SPEC']);
    expect(await statusAndCode(await change({ 'tasks.every': 4 }))).toEqual([400, 'SETTING_INVALID']);
    world.store.tasks.set(detail.job, { files: ['/a.yaml'], every: 1, metric: null, limit: null });
    expect((await json<JobDetail>(change({ 'tasks.every': 4 }))).tasks).toMatchObject({ every: 4 });
    world.run.operate({ type: 'stop', reason: '' });
    expect(await statusAndCode(await change({ priority: 1 }))).toEqual([409, 'JOB_OVER']);
  });

  test('answers a shutdown before it begins', async () => {
    const { post, shutdowns } = await api(await new World().start());
    expect((await post('/v1/shutdown', {})).status).toBe(200);
    await eventuallyHolds(() => expect(shutdowns()).toBe(1));
  });
});
