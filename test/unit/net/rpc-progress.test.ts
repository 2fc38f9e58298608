import type { Stream } from '@libp2p/interface';
import { encode } from 'it-length-prefixed';
import { describe, expect, it } from 'vitest';
import type { FairPermits } from '../../../common/limits/fair-permits.ts';
import { FrameStream } from '../../../net/frames.ts';
import type { StreamOpener } from '../../../net/libp2p/streams.ts';
import { noMeter } from '../../../net/meter.ts';
import { RpcServer } from '../../../net/rpc/server.ts';
import { encodeCbor } from '../../../protocol/cbor.ts';
import { GOSSIP_MESSAGE_BYTES, RPC_TIMEOUT_MS, SLOWEST_BYTES_PER_SECOND } from '../../../protocol/limits.ts';
import { RPC_PROTOCOL, rpcMethods, transferMs } from '../../../protocol/requests/rpc.ts';
import { eventually } from '../../utils/eventually.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { rawStream, recordingLog, soon, startHost, startRaw } from '../../utils/swarm/hosts.ts';

const job = 'ab'.repeat(32);
const update = new Uint8Array(GOSSIP_MESSAGE_BYTES);
/** Size of the blocks in which a host sends, rounded down. A connection at the lowest speed needs 4 s for it. */
const BLOCK = 63 * 1024;

const framed = (bytes: Uint8Array): Uint8Array => encode.single(bytes).subarray();

function piecesOf(bytes: Uint8Array, size: number): Uint8Array[] {
  const count = Math.ceil(bytes.length / size);
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

/** Starts a host with a manual clock, and a raw peer that is connected to it. */
async function startPair() {
  const clock = new ManualClock();
  const host = await startHost({ clock });
  host.network.handle('submit', async () => ({ receipt: new Uint8Array(64) }));
  host.network.handle('clock', async () => ({ at: 0 }));
  const raw = await startRaw();
  const open = () => rawStream(raw, host, RPC_PROTOCOL);
  /** Resolves when the host has handled all bytes that the raw peer sent before: it answers a later call. */
  const handled = async (): Promise<void> => {
    const stream = await open();
    stream.send(Buffer.concat([framed(Buffer.from('clock')), framed(encodeCbor({}))]));
    await new FrameStream({ unreadBytes: 4096 }, { stream }).read(4096, soon());
  };
  /** Lets the raw peer send pieces on a stream, each after a time. @returns the total time in milliseconds */
  const sendSlowly = async (
    stream: Stream,
    pieces: readonly Uint8Array[],
    msOf: (piece: Uint8Array) => number,
  ): Promise<number> => {
    let total = 0;
    for (const piece of pieces) {
      const ms = msOf(piece);
      clock.advance(ms);
      total += ms;
      // The host ends a call that takes too long.
      if (stream.status !== 'open') break;
      stream.send(piece);
      await handled();
    }
    return total;
  };
  return { clock, host, raw, open, handled, sendSlowly };
}

const slowest = (piece: Uint8Array): number => (1000 * piece.length) / SLOWEST_BYTES_PER_SECOND;

describe('a call over a slow connection', () => {
  /** Sends an update to a host in pieces. Returns the text of the answer, and the time that the pieces took. */
  async function submit(pieces: readonly Uint8Array[], msOf: (piece: Uint8Array) => number) {
    const { clock, open, sendSlowly } = await startPair();
    const stream = await open();
    const reader = new FrameStream({ unreadBytes: 4096 }, { stream });
    stream.send(framed(Buffer.from('submit')));
    const ms = await sendSlowly(stream, pieces, msOf);
    return {
      clock,
      ms,
      answer: reader.read(4096, soon()).then((bytes) => Buffer.from(bytes).toString('latin1')),
    };
  }
  const request = framed(encodeCbor({ update }));

  it('is answered if the largest request arrives at the lowest supported speed', async () => {
    const { ms, answer } = await submit(piecesOf(request, BLOCK), slowest);
    expect(ms).toBeGreaterThan(1.5 * RPC_TIMEOUT_MS);
    expect(await answer).toContain('receipt');
  });

  it('ends if only a few bytes arrive', async () => {
    const { clock, answer } = await submit(piecesOf(request, 1024).slice(0, 3), () => 3_000);
    clock.advance(RPC_TIMEOUT_MS - 9_000);
    expect(await answer).toContain('DEADLINE_EXCEEDED');
  });

  it('ends after a total time, even if bytes arrive in time again and again', async () => {
    const pieces = piecesOf(request, 33 * 1024);
    const totalMs = RPC_TIMEOUT_MS + transferMs(rpcMethods.submit.maxRequestBytes);
    const { clock, ms, answer } = await submit(pieces.slice(0, Math.floor(totalMs / 9_000)), () => 9_000);
    clock.advance(totalMs - ms + 100);
    expect(await answer).toContain('DEADLINE_EXCEEDED');
  });

  it('gets the largest answer at the lowest supported speed, and not more slowly', async () => {
    const { host, raw, open, handled, sendSlowly } = await startPair();
    const peer = raw.peerId.toString();
    await open();
    const streams: Stream[] = [];
    await raw.handle(RPC_PROTOCOL, (stream) => {
      streams.push(stream);
    });
    const manifest = new Uint8Array(500 * 1024);
    const answer = framed(encodeCbor({ ok: { manifest, head: null } }));
    const call = async (msOf: (piece: Uint8Array) => number) => {
      const calls = streams.length;
      const result = host.network.request(peer, 'manifest', { job, invite: null }, { signal: soon() }).then(
        (body) => body.manifest.length,
        (error) => error.code,
      );
      await eventually(() => streams.length > calls);
      const ms = await sendSlowly(streams.at(-1)!, piecesOf(answer, BLOCK), msOf);
      await handled();
      return { ms, result: await result };
    };
    const { ms, result } = await call(slowest);
    expect(ms).toBeGreaterThan(30_000);
    expect(result).toBe(manifest.length);
    expect((await call((piece) => 2 * slowest(piece))).result).toBe('RPC_TIMEOUT');
  });
});

/** A stream whose peer has sent a call, and does not read. */
class StuckStream extends EventTarget {
  status = 'open';
  readonly remoteWriteStatus = 'writable';
  readonly writeStatus = 'writable';
  readonly writeBufferLength = 1;
  readonly readBufferLength = 0;
  sent = 0;

  send(bytes: Uint8Array): boolean {
    this.sent += bytes.length;
    return false;
  }

  abort(): void {
    this.status = 'aborted';
  }
}

describe('a caller that does not read its answer', () => {
  async function stuckCall() {
    const clock = new ManualClock();
    let withdraw = (): void => {};
    let released = 0;
    const permits = {
      size: 0,
      take: (_claimant: object, onWithdraw: () => void) => {
        withdraw = onWithdraw;
        return () => released++;
      },
    } as unknown as FairPermits;
    type Serve = (stream: Stream, from: StreamOpener) => Promise<void>;
    let serve: Serve = async () => {};
    const streams = {
      open: () => Promise.reject(new Error('not used')),
      handle: async (protocol: string, _options: object, handler: Serve) => {
        if (protocol === RPC_PROTOCOL) serve = handler;
      },
    };
    const server = new RpcServer({ streams, clock, log: recordingLog([]), meter: noMeter, permits });
    server.handle('manifest', async () => ({ manifest: new Uint8Array(400 * 1024), head: null }));
    await server.start();
    const stream = new StuckStream();
    const done = serve(stream as unknown as Stream, { peer: 'attacker', address: 'a', ip: null });
    const data = Buffer.concat([framed(Buffer.from('manifest')), framed(encodeCbor({ job, invite: null }))]);
    stream.dispatchEvent(Object.assign(new Event('message'), { data }));
    await eventually(() => stream.sent > 0);
    return { clock, stream, done, withdraw: () => withdraw(), released: () => released };
  }

  it('loses its permit after the usual time without progress', async () => {
    const { clock, stream, done, released } = await stuckCall();
    clock.advance(RPC_TIMEOUT_MS - 1);
    expect(released()).toBe(0);
    clock.advance(1);
    await done;
    expect(released()).toBe(1);
    expect(stream.status).toBe('aborted');
  });

  it('loses its permit at once if another address needs it', async () => {
    const { stream, done, withdraw, released } = await stuckCall();
    withdraw();
    await done;
    expect(released()).toBe(1);
    expect(stream.status).toBe('aborted');
  });
});
