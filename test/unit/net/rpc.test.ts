import { randomBytes } from 'node:crypto';
import { multiaddr } from '@multiformats/multiaddr';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { SwarmError } from '../../../common/errors.ts';
import { FrameStream } from '../../../net/frames.ts';
import { decodeCbor, encodeCbor } from '../../../protocol/cbor.ts';
import { RPC_TIMEOUT_MS } from '../../../protocol/limits.ts';
import { OLD_RPC_PROTOCOLS, RPC_PROTOCOL, rpcMethods } from '../../../protocol/requests/rpc.ts';
import { eventually } from '../../utils/eventually.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { withCode } from '../../utils/source/codes.ts';
import { join, rawStream, soon, startHost, startRaw, type TestHost } from '../../utils/swarm/hosts.ts';
import { testKeys } from '../../utils/swarm/job-keys.ts';

const job = 'ab'.repeat(32);

async function pair(options: { clock?: ManualClock } = {}): Promise<[TestHost, TestHost]> {
  const [caller, callee] = await Promise.all([startHost(options), startHost(options)]);
  await join(caller, callee);
  return [caller, callee];
}

const refused = (value: string) => withCode('RPC_REFUSED', { code: value });

/** Returns the error with which a host answers frames that our own code never sends. */
async function answerTo(host: TestHost, frames: Uint8Array[]): Promise<{ code: string; message: string }> {
  const stream = await rawStream(await startRaw(), host, RPC_PROTOCOL);
  const reader = new FrameStream({ unreadBytes: 4 * 1024 * 1024 }, { stream });
  for (const frame of frames) stream.send(frame);
  const schema = z.strictObject({ error: z.strictObject({ code: z.string(), message: z.string() }) });
  return decodeCbor(await reader.read(4096, soon()), schema, 4096).error;
}

const framed = (bytes: Uint8Array): Uint8Array => encode.single(bytes).subarray();

describe('requests', () => {
  it('carry bodies both ways and the id of the caller', async () => {
    const [caller, callee] = await pair();
    const update = new Uint8Array(randomBytes(200_000));
    const receipt = new Uint8Array(randomBytes(3000));
    callee.network.handle('submit', async (peer, body) => {
      expect(peer).toBe(caller.peer);
      expect(Buffer.compare(body.update, update)).toBe(0);
      return { receipt };
    });
    const answer = await caller.network.request(callee.peer, 'submit', { update }, { signal: soon() });
    expect(Buffer.compare(answer.receipt, receipt)).toBe(0);
  });

  it('run in both directions on one connection, many at a time', async () => {
    const [a, b] = await pair();
    for (const host of [a, b]) host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
    const calls = [a, b].flatMap((from) => {
      const to = from === a ? b : a;
      return Array.from({ length: 15 }, () =>
        from.network.request(to.peer, 'head', { job }, { signal: soon() }),
      );
    });
    expect(await Promise.all(calls)).toEqual(Array(30).fill({ head: null, keys: testKeys() }));
  });

  it('pass a SwarmError of the handler to the caller, and any other error as INTERNAL', async () => {
    const [caller, callee] = await pair();
    callee.network.handle('head', async () => {
      throw new SwarmError('JOB_UNKNOWN', 'unknown job');
    });
    callee.network.handle('leave', async () => {
      throw new Error('/secret/path is missing');
    });
    await expect(caller.network.request(callee.peer, 'head', { job }, { signal: soon() })).rejects.toEqual(
      refused('JOB_UNKNOWN'),
    );
    const bug = caller.network.request(callee.peer, 'leave', { job, reason: '' }, { signal: soon() });
    await expect(bug).rejects.toEqual(refused('INTERNAL'));
    await expect(bug).rejects.toMatchObject({ message: expect.not.stringContaining('/secret') });
  });

  it('that are refused carry our own advice for the code, and none of the other peer', async () => {
    const [caller, callee] = await pair();
    const refusal = async (code: string): Promise<unknown> => {
      callee.network.handle('head', async () => {
        throw new SwarmError(code, 'no', {}, { next: 'run this' });
      });
      return caller.network.request(callee.peer, 'head', { job }, { signal: soon() }).catch((error) => error);
    };
    expect(await refusal('NOT_ADMITTED')).toMatchObject({ next: expect.stringContaining('invite') });
    expect(await refusal('CLOCK_OFF')).toMatchObject({ next: expect.stringContaining('NTP') });
    expect(await refusal('NEW_CODE')).toMatchObject({ next: null });
    expect(await refusal('constructor')).toMatchObject({ next: null });
  });

  it('are refused for an unknown method', async () => {
    const [caller, callee] = await pair();
    await expect(
      caller.network.request(callee.peer, 'jobs', { invite: null }, { signal: soon() }),
    ).rejects.toEqual(refused('RPC_METHOD_UNKNOWN'));
    expect(await answerTo(callee, [framed(Buffer.from('constructor'))])).toMatchObject({
      code: 'RPC_METHOD_UNKNOWN',
    });
  });

  it('in an old version of the protocol are refused, with advice to update', async () => {
    const callee = await startHost();
    const stream = await rawStream(await startRaw(), callee, OLD_RPC_PROTOCOLS[0]!);
    const reader = new FrameStream({ unreadBytes: 4096 }, { stream });
    stream.send(framed(Buffer.from('jobs')));
    stream.send(framed(encodeCbor({})));
    const schema = z.strictObject({ error: z.strictObject({ code: z.string(), message: z.string() }) });
    expect(decodeCbor(await reader.read(4096, soon()), schema, 4096).error).toEqual({
      code: 'PROTOCOL_VERSION',
      message: expect.stringMatching(/\bupdate\b/),
    });
  });

  it('of a peer that speaks another version only cannot be read, so the host lists the peer while it is connected', async () => {
    const host = await startHost();
    const [older, foreign] = [await startRaw(), await startRaw()];
    await older.handle('/lora-swarm/rpc/1', () => {});
    const same = await startHost();
    const address = host.network.addresses()[0]!;
    for (const node of [older, foreign]) await node.dial(multiaddr(address));
    await same.network.connect(address, { signal: soon() });
    const peer = older.peerId.toString();
    await eventually(() => expect(host.network.otherVersions()).toMatchObject([{ peer }]));
    await older.stop();
    await eventually(() => expect(host.network.otherVersions()).toEqual([]));
  });

  it('to a peer of another version throw PROTOCOL_VERSION', async () => {
    const [caller, other] = [await startHost(), await startRaw()];
    await caller.network.connect(other.getMultiaddrs()[0]!.toString(), { signal: soon() });
    const call = caller.network.request(
      other.peerId.toString(),
      'jobs',
      { invite: null },
      { signal: soon() },
    );
    await expect(call).rejects.toMatchObject({ code: 'PROTOCOL_VERSION' });
  });

  it('throw RPC_UNREACHABLE if the peer is offline', async () => {
    const [caller, callee] = await pair();
    await callee.network.stop();
    await eventually(() => caller.network.peers().length === 0);
    await expect(
      caller.network.request(callee.peer, 'jobs', { invite: null }, { signal: soon() }),
    ).rejects.toMatchObject({
      code: 'RPC_UNREACHABLE',
    });
  });

  it('end with the reason of the signal', async () => {
    const [caller, callee] = await pair();
    callee.network.handle('head', () => new Promise(() => {}));
    const controller = new AbortController();
    const call = caller.network.request(callee.peer, 'head', { job }, { signal: controller.signal });
    controller.abort();
    await expect(call).rejects.toBe(controller.signal.reason);
  });
});

describe('limits of requests', () => {
  it('ends a call at its timeout', async () => {
    const clock = new ManualClock();
    const [caller, callee] = await pair({ clock });
    let asked = 0;
    callee.network.handle('head', () => {
      asked++;
      return new Promise(() => {});
    });
    const call = caller.network.request(callee.peer, 'head', { job }, { signal: soon() });
    const outcome = expect(call).rejects.toMatchObject({ code: 'RPC_TIMEOUT' });
    await eventually(() => asked === 1);
    clock.advance(RPC_TIMEOUT_MS);
    await outcome;
  });

  it('tells the handler of a call at its timeout that its answer is no longer wanted', async () => {
    const clock = new ManualClock();
    const [caller, callee] = await pair({ clock });
    let unwanted: AbortSignal | undefined;
    callee.network.handle('head', (_peer, _body, { signal }) => {
      unwanted = signal;
      return new Promise(() => {});
    });
    const call = caller.network.request(callee.peer, 'head', { job }, { signal: soon() });
    const outcome = expect(call).rejects.toMatchObject({ code: 'RPC_TIMEOUT' });
    await eventually(() => unwanted !== undefined);
    expect(unwanted!.aborted).toBe(false);
    clock.advance(RPC_TIMEOUT_MS);
    await outcome;
    expect(unwanted!.reason).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  });

  it('resets a caller that never finishes its request', async () => {
    const clock = new ManualClock();
    const host = await startHost({ clock });
    host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
    const stream = await rawStream(await startRaw(), host, RPC_PROTOCOL);
    stream.send(framed(Buffer.from('head')));
    stream.send(Uint8Array.of(100, 1, 2, 3));
    await eventually(() => {
      clock.advance(RPC_TIMEOUT_MS);
      return stream.remoteWriteStatus === 'closed';
    });
  });

  it('resets the stream of a caller that does not close its side after the answer', async () => {
    const clock = new ManualClock();
    const host = await startHost({ clock });
    host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
    const stream = await rawStream(await startRaw(), host, RPC_PROTOCOL);
    stream.send(Buffer.concat([framed(Buffer.from('head')), framed(encodeCbor({ job }))]));
    const reader = new FrameStream({ unreadBytes: 4096 }, { stream });
    await eventually(() => stream.remoteWriteStatus === 'closed');
    expect(stream.status).toBe('open');
    await eventually(() => {
      clock.advance(1_000);
      return stream.status === 'reset';
    });
    expect((await reader.read(4096, soon())).length).toBeGreaterThan(0);
  });

  it.each(Object.keys(rpcMethods) as (keyof typeof rpcMethods)[])(
    'refuses an oversized %s request before its body is read',
    async (method) => {
      const host = await startHost();
      host.network.handle(method, () => Promise.reject(new Error('must not be reached')));
      const prefix = framed(new Uint8Array(rpcMethods[method].maxRequestBytes + 1)).subarray(0, 3);
      // Only the length is sent, so an answer shows that the host did not wait for the body.
      expect(await answerTo(host, [framed(Buffer.from(method)), prefix])).toMatchObject({
        code: 'MESSAGE_TOO_LARGE',
      });
    },
  );

  it('refuses a length prefix of more than four bytes', async () => {
    const host = await startHost();
    expect(await answerTo(host, [new Uint8Array(64).fill(0xff)])).toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
  });

  it('does not send an oversized request', async () => {
    const [caller, callee] = await pair();
    const update = new Uint8Array(rpcMethods.submit.maxRequestBytes);
    await expect(
      caller.network.request(callee.peer, 'submit', { update }, { signal: soon() }),
    ).rejects.toMatchObject({ code: 'MESSAGE_TOO_LARGE' });
  });

  it('refuses an oversized answer at both ends', async () => {
    const [caller, callee] = await pair();
    const receipt = new Uint8Array(rpcMethods.receipt.maxResponseBytes + 4096);
    callee.network.handle('receipt', async () => ({ receipt }));
    await expect(
      caller.network.request(callee.peer, 'receipt', { job, update: job }, { signal: soon() }),
    ).rejects.toEqual(refused('MESSAGE_TOO_LARGE'));

    const hostile = await startRaw();
    await hostile.handle(RPC_PROTOCOL, (stream) => {
      stream.send(framed(encodeCbor({ ok: { receipt } })));
    });
    const address = hostile.getMultiaddrs()[0]!.toString();
    await caller.network.connect(address, { signal: soon() });
    await expect(
      caller.network.request(hostile.peerId.toString(), 'receipt', { job, update: job }, { signal: soon() }),
    ).rejects.toMatchObject({ code: 'MESSAGE_TOO_LARGE' });
  });

  it('refuses a body that is not CBOR or has wrong fields', async () => {
    const host = await startHost();
    host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
    const method = framed(Buffer.from('head'));
    expect(await answerTo(host, [method, framed(Uint8Array.of(0xff, 0xff))])).toMatchObject({
      code: 'MESSAGE_MALFORMED',
    });
    expect(await answerTo(host, [method, framed(encodeCbor({ job: '../../etc' }))])).toMatchObject({
      code: 'MESSAGE_INVALID',
    });
  });

  it('refuses a body of many tiny values before it decodes them', async () => {
    const host = await startHost();
    host.network.handle('submit', async () => ({ receipt: new Uint8Array() }));
    const body = encodeCbor({ update: Array.from({ length: 200_000 }, () => 0) });
    expect(await answerTo(host, [framed(Buffer.from('submit')), framed(body)])).toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
  });

  it('refuses calls above the quota, which refills with time', async () => {
    const clock = new ManualClock();
    const [caller, callee] = await pair({ clock });
    callee.network.handle('jobs', async () => ({ jobs: [], others: false }));
    const call = () => caller.network.request(callee.peer, 'jobs', { invite: null }, { signal: soon() });
    const { calls, perMs } = rpcMethods.jobs.quota;
    for (let i = 0; i < calls; i++) await call();
    await expect(call()).rejects.toEqual(refused('RPC_RATE_LIMITED'));
    clock.advance(perMs / calls);
    await call();
    await expect(call()).rejects.toEqual(refused('RPC_RATE_LIMITED'));
  });

  it('survives callers that disconnect at any moment', async () => {
    const host = await startHost();
    host.network.handle('head', async () => ({ head: null, keys: testKeys() }));
    const raw = await startRaw();
    const whole = Buffer.concat([framed(Buffer.from('head')), framed(encodeCbor({ job }))]);
    for (let cut = 0; cut <= whole.length; cut += 7) {
      const stream = await rawStream(raw, host, RPC_PROTOCOL);
      stream.send(whole.subarray(0, cut));
      if (cut % 2 === 0) stream.abort(new Error('disconnected'));
      else await stream.close();
    }
    const other = await startHost();
    await join(other, host);
    expect(await other.network.request(host.peer, 'head', { job }, { signal: soon() })).toEqual({
      head: null,
      keys: testKeys(),
    });
  });
});
