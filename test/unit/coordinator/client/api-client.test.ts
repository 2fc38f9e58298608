import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ApiClient } from '../../../../coordinator/client/api-client.ts';
import { createJob } from '../../../../coordinator/client/create-job.ts';
import { followEvents, needsOperatorSince } from '../../../../coordinator/client/follow.ts';
import { readAll } from '../../../../coordinator/client/http.ts';
import { coordinatorError } from '../../../../coordinator/errors.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

const signal = new AbortController().signal;

/** A home with a daemon that answers with `listener`. `close` ends the daemon and leaves its file, like a kill. */
async function daemon(listener: RequestListener) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  onTestFinished(close);
  const home = mkdtempSync(join(tmpdir(), 'swarm-home-'));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  writeFileSync(join(home, 'coordinator.json'), JSON.stringify({ role: 'coordinator', url }));
  writeFileSync(join(home, 'api-token'), 'secret\n');
  return { home, url, close, client: () => ApiClient.open(home, 'coordinator', { signal }) };
}

describe('the API client', () => {
  it('finds the daemon by its file, and sends the token', async () => {
    const seen: unknown[] = [];
    const { client } = await daemon((request, response) => {
      seen.push([request.method, request.url, request.headers.authorization]);
      response.end(JSON.stringify({ peers: [] }));
    });
    expect(await (await client()).peers()).toEqual([]);
    expect(seen).toEqual([['GET', '/v1/peers', 'Bearer secret']]);
  });

  it('encodes names in paths, also those of a JavaScript program', async () => {
    const seen: unknown[] = [];
    const { client } = await daemon((request, response) => {
      seen.push(request.url);
      response.end('{}');
    });
    await (await client()).checkpoint('a/b', 3);
    await (await client()).checkpoint('a', '../../../shutdown' as 'latest');
    expect(seen).toEqual(['/v1/jobs/a%2Fb/checkpoints/3', '/v1/jobs/a/checkpoints/..%2F..%2F..%2Fshutdown']);
  });

  it('keeps the code of an API error, and takes the code of any other answer from its status', async () => {
    const answers = [
      {
        status: 404,
        body: JSON.stringify({ code: 'JOB_NOT_FOUND', message: 'no job "x"', values: { job: 'x' } }),
      },
      { status: 401, body: 'no' },
      { status: 500, body: '<html>' },
    ];
    const { client } = await daemon((_request, response) => {
      const { status, body } = answers.shift()!;
      response.writeHead(status).end(body);
    });
    const api = await client();
    await expect(api.job('x')).rejects.toMatchObject({ code: 'JOB_NOT_FOUND', values: { job: 'x' } });
    await expect(api.job('x')).rejects.toMatchObject({ code: 'API_REFUSED' });
    await expect(api.job('x')).rejects.toMatchObject({ code: 'API_FAILED' });
  });

  it('gets no former nodes from a coordinator of an earlier release', async () => {
    const { client } = await daemon((_request, response) => response.end('{"peers":[],"bans":[]}'));
    expect(await (await client()).formerPeers()).toEqual([]);
  });

  it('takes the URL and the token instead of a home', async () => {
    const seen: unknown[] = [];
    const { url, close } = await daemon((request, response) => {
      seen.push(request.headers.authorization);
      response.end(JSON.stringify({ peers: [] }));
    });
    const api = await ApiClient.connect({ url, token: 'secret' });
    expect(await api.peers()).toEqual([]);
    expect(seen).toEqual(['Bearer secret']);
    close();
    await expect(api.peers()).rejects.toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      values: { url },
      next: expect.stringContaining('URL'),
    });
  });

  it('fails without a daemon, also when a killed one left its file', async () => {
    const nowhere = ApiClient.open('/nowhere', 'coordinator', { signal });
    await expect(nowhere).rejects.toMatchObject({ code: 'DAEMON_NOT_RUNNING' });
    const { client, close } = await daemon((_request, response) => response.end('{}'));
    const api = await client();
    close();
    await expect(api.status()).rejects.toMatchObject({ code: 'DAEMON_NOT_RUNNING' });
  });

  it.each([
    { when: 'before it answers', part: '' },
    { when: 'in the middle of an answer', part: '{"job":' },
  ])('says that the daemon ended $when', async ({ part }) => {
    const { client, home } = await daemon((request, response) => {
      if (part === '') request.socket.destroy();
      else response.write(part, () => response.socket?.destroy());
    });
    const api = await client();
    await expect(api.act('j', 'stop', '')).rejects.toMatchObject({
      code: 'DAEMON_GONE',
      kind: 'notRunning',
      values: { url: api.url, path: '/v1/jobs/j/stop', began: part !== '' },
      next: expect.stringContaining(`lora-swarm status --home ${home}`),
    });
    const events = api.events('j', { follow: true });
    await expect(events.next()).rejects.toMatchObject({ code: 'DAEMON_GONE' });
  });

  it('names the role that owns the home when it is another one', async () => {
    const home = mkdtempSync(join(tmpdir(), 'swarm-home-'));
    writeFileSync(join(home, 'node.sqlite'), '');
    await expect(ApiClient.open(home, 'coordinator', { signal })).rejects.toMatchObject({
      code: 'DAEMON_NOT_RUNNING',
      values: { owner: 'node' },
    });
  });

  it('reads lines that arrive in any pieces', async () => {
    const { client } = await daemon((_request, response) => {
      response.write('{"event":"progress","stage":"base","do');
      response.write('ne":1,"total":2}\n{"event":"created","job":"j","na');
      response.end('me":"n","invite":"i"}\n');
    });
    const lines = [];
    for await (const line of (await client()).createJob({})) lines.push(line.event);
    expect(lines).toEqual(['progress', 'created']);
  });
});

describe('creating a job', () => {
  const lines = (...values: object[]) => values.map((value) => JSON.stringify(value)).join('\n');

  it('sends absolute paths, reports progress, and returns the job', async () => {
    const base = await temporaryFolder();
    let sent: { base: string; data: { train: string[] } } | null = null;
    const { home } = await daemon(async (request, response) => {
      sent = JSON.parse((await readAll(request)).toString());
      const progress = { event: 'progress', stage: 'base', done: 1, total: 2 };
      response.end(
        lines(progress, { event: 'created', job: 'ab', name: 'm', invite: 'swarm1', isNew: false }),
      );
    });
    const progress: unknown[] = [];
    const spec = { name: 'm', base, data: { train: 'text/*.txt' } };
    const created = await createJob({ home }, spec, { onProgress: (one) => progress.push(one) });
    expect(created).toEqual({ job: 'ab', name: 'm', invite: 'swarm1', isNew: false });
    expect(sent).toMatchObject({ base, data: { train: [resolve('text/*.txt')], heldOut: 0.1 } });
    expect(progress).toEqual([{ stage: 'base', done: 1, total: 2 }]);
  });

  it('takes a job for new if an older coordinator does not say whether it is', async () => {
    const { home } = await daemon((_request, response) => {
      response.end(lines({ event: 'created', job: 'ab', name: 'm', invite: 'swarm1' }));
    });
    const spec = { name: 'm', base: await temporaryFolder(), data: { train: 't' } };
    expect(await createJob({ home }, spec)).toMatchObject({ isNew: true });
  });

  it("throws its signal's reason, before the request and while the coordinator works", async () => {
    const base = await temporaryFolder();
    const requests: string[] = [];
    const { home, client } = await daemon((request, response) => {
      requests.push(request.url!);
      response.write(`${JSON.stringify({ event: 'progress', stage: 'base', done: 1, total: 2 })}\n`);
    });
    const spec = { name: 'm', base, data: { train: 't' } };
    const reason = new Error('enough');
    const aborted = createJob({ home }, spec, { signal: AbortSignal.abort(reason) });
    await expect(aborted).rejects.toBe(reason);
    expect(requests).toEqual([]);
    for (const where of [{ home }, await client()]) {
      const controller = new AbortController();
      const onProgress = (): void => controller.abort(reason);
      await expect(createJob(where, spec, { signal: controller.signal, onProgress })).rejects.toBe(reason);
    }
  });

  it("fails with the coordinator's error, with that of the settings, or when the answer breaks off", async () => {
    const base = await temporaryFolder();
    const answers = [{ event: 'error', code: 'JOB_EXISTS', message: 'm', kind: 'conflict' }, {}];
    const { home } = await daemon((_request, response) => response.end(lines(answers.shift()!)));
    const create = (change: object) =>
      createJob({ home }, { name: 'm', base, data: { train: 't' }, ...change });
    await expect(create({})).rejects.toMatchObject({ code: 'JOB_EXISTS', kind: 'conflict' });
    await expect(create({})).rejects.toMatchObject({ code: 'JOB_NOT_CREATED' });
    await expect(create({ seed: -1 })).rejects.toMatchObject({ code: 'JOB_SPEC', values: { field: 'seed' } });
  });
});

describe('following a job', () => {
  it('continues after a broken stream, with each event once', async () => {
    const asked: (string | null)[] = [];
    const { client } = await daemon((request, response) => {
      const after = new URL(request.url!, 'http://x').searchParams.get('after');
      asked.push(after);
      const events = after === '0' ? [1, 2] : [3];
      for (const sequence of events) response.write(`${JSON.stringify({ sequence, type: 'resumed' })}\n`);
      // The first stream breaks in the middle of a line.
      if (after === '0') response.write('{"sequ', () => response.socket?.end());
    });
    const controller = new AbortController();
    const seen: number[] = [];
    for await (const event of followEvents(client, 'j', { signal: controller.signal, now: () => 0 })) {
      seen.push(event.sequence);
      if (event.sequence === 3) break;
    }
    expect(seen).toEqual([1, 2, 3]);
    expect(asked).toEqual(['0', '2']);
  });

  it('does not count a quiet hour as an absence', async () => {
    let now = 0;
    let opened = 0;
    const { client } = await daemon((_request, response) => {
      if (opened === 1) response.write('{"sequ', () => response.socket?.end());
      else response.end(`${JSON.stringify({ sequence: 1, type: 'resumed' })}\n`);
      // Each stream stays open for an hour without an event.
      now += 3_600_000;
    });
    // The second attempt finds no daemon.
    const open = (): Promise<ApiClient> =>
      ++opened === 2 ? ApiClient.open('/nowhere', 'coordinator', { signal }) : client();
    const { value } = await followEvents(open, 'j', { signal, now: () => now }).next();
    expect(value).toMatchObject({ sequence: 1 });
  });

  it('fails after a minute without the coordinator, and at once on an API error', async () => {
    let now = 0;
    const away = followEvents(() => ApiClient.open('/nowhere', 'coordinator', { signal }), 'j', {
      signal,
      now: () => (now += 60_001),
    });
    await expect(away.next()).rejects.toMatchObject({ code: 'DAEMON_NOT_RUNNING' });
    const { client } = await daemon((_request, response) => {
      response.writeHead(404).end(JSON.stringify({ code: 'JOB_NOT_FOUND', message: 'no', values: {} }));
    });
    const refused = followEvents(client, 'j', { signal, now: () => 0 });
    await expect(refused.next()).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
  });

  it('asks again while the coordinator is too busy to answer, for a minute', async () => {
    let now = 0;
    let silent = 2;
    const { client } = await daemon((_request, response) => {
      response.end(JSON.stringify({ needsOperator: false }));
    });
    const open = async (): Promise<ApiClient> => {
      if (silent-- > 0)
        throw coordinatorError('DAEMON_TIMEOUT', 'the coordinator did not answer within 10 s');
      return client();
    };
    const options = { signal, now: () => now };
    expect(await needsOperatorSince(open, 'j', 1, options)).toBe(false);
    silent = Number.POSITIVE_INFINITY;
    options.now = () => (now += 60_001);
    await expect(needsOperatorSince(open, 'j', 1, options)).rejects.toMatchObject({ code: 'DAEMON_TIMEOUT' });
  });
});
