import type { RPC } from '@libp2p/gossipsub/message';
import type { PeerId } from '@libp2p/interface';
import { describe, expect, it } from 'vitest';
import {
  contentId,
  GossipGate,
  HANDED_OVER,
  LOWEST_SOFT_SCORE,
  UNWANTED,
} from '../../../../net/libp2p/gossip-gate.ts';
import { noMeter } from '../../../../net/meter.ts';
import { jobTopic } from '../../../../protocol/job/topics.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { gossipMessage, strangerSigner } from '../../../utils/swarm/gossip-messages.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const topic = jobTopic('ab'.repeat(32), 'peers');
const other = jobTopic('cd'.repeat(32), 'peers');
const member = signerOf(1);
const text = (value: string): Uint8Array => Buffer.from(value);
const peerNamed = (name: string): PeerId => ({ toString: () => name }) as PeerId;

/** Makes a gossip gate, with a fake gossipsub behind it that records the messages instead of verifying them. */
function gate() {
  const clock = new ManualClock();
  const passed: string[] = [];
  const invalid: string[] = [];
  const delivered: string[] = [];
  const dropped: Record<string, number> = {};
  const runtime = {
    handleReceivedRpc: async (_from: PeerId, { messages }: RPC) => {
      passed.push(...messages.map(({ data }) => Buffer.from(data!).toString()));
    },
    acceptFrom: (peer: string) => peer !== 'outcast',
    peers: new Map(),
    score: {
      params: { appSpecificScore: () => 0 as number },
      rejectInvalidMessage: (from: string) => invalid.push(from),
    },
    gossipTracer: { size: 1, deliverMessage: (id: string) => delivered.push(id) },
    msgIdToStrFn: (id: Uint8Array) => Buffer.from(id).toString('hex'),
  };
  const rules = {
    messageBytes: (name: string) => (name === topic ? 100 : null),
    admits: (_name: string, author: string) => author === member.peerId,
    maySubscribe: () => true,
    knows: (peer: string) => peer === member.peerId,
  };
  const gossipDropped = (reason: string, count: number): void => {
    dropped[reason] = (dropped[reason] ?? 0) + count;
  };
  const guard = new GossipGate({
    runtime,
    rules,
    clock,
    meter: { ...noMeter, gossipDropped },
    networkOf: (peer) => `address ${peer[0]}`,
  });
  const receive = (via: string, messages: RPC.Message[]): Promise<void> =>
    runtime.handleReceivedRpc(peerNamed(via), { subscriptions: [], messages });
  return { clock, guard, runtime, receive, passed, invalid, delivered, dropped };
}

function flood(count: number, first = 0): RPC.Message[] {
  return Array.from({ length: count }, (_, i) =>
    gossipMessage(topic, text('junk'), strangerSigner(first + i)),
  );
}

/** Advances the clock to the end of one pause after the other until a promise resolves. Returns the milliseconds. */
async function pausesUntil(end: Promise<unknown>, clock: ManualClock): Promise<number> {
  const start = clock.monotonic();
  let ended = false;
  void end.then(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise(setImmediate);
    expect(clock.due().length).toBeLessThanOrEqual(1);
    clock.advance(clock.due()[0] ?? 0);
  }
  return clock.monotonic() - start;
}

describe('a gossip message', () => {
  it('of an author whom no handler admits is dropped before its signature is verified', async () => {
    const { receive, passed, dropped, invalid } = gate();
    const mine = gossipMessage(topic, text('mine'), member);
    await receive('relay', [...flood(10), mine, ...flood(10, 10)]);
    expect(passed).toEqual(['mine']);
    expect(dropped).toEqual({ 'not-admitted': 20 });
    expect(invalid).toEqual([]);
  });

  it('is dropped if we do not subscribe to its topic', async () => {
    const { receive, passed, dropped } = gate();
    await receive('relay', [gossipMessage(other, text('other'), member)]);
    expect(passed).toEqual([]);
    expect(dropped).toEqual({ 'not-subscribed': 1 });
  });

  it('lowers the score of its forwarder if it is too large or names no Ed25519 key', async () => {
    const { receive, passed, dropped, invalid } = gate();
    const large = gossipMessage(topic, new Uint8Array(101), member);
    const nameless = { ...gossipMessage(topic, text('x'), member), from: new Uint8Array(34) };
    await receive('forwarder', [large, nameless]);
    expect(passed).toEqual([]);
    expect(dropped).toEqual({ 'too-large': 1, malformed: 1 });
    expect(invalid).toEqual(['forwarder', 'forwarder']);
  });

  it('of a peer with a low score is dropped, even if a member has signed it', async () => {
    const { receive, passed, dropped } = gate();
    await receive('outcast', [gossipMessage(topic, text('mine'), member)]);
    expect(passed).toEqual([]);
    expect(dropped).toEqual({ 'low-score': 1 });
  });

  it('that we had requested counts as delivered when it is dropped', async () => {
    const { receive, delivered } = gate();
    const [message] = flood(1);
    await receive('relay', [message!]);
    expect(delivered).toEqual([Buffer.from(contentId(message!)).toString('hex')]);
  });

  it('counts for the peer that hands it over, not for the author that it claims', async () => {
    const { clock, receive, passed, dropped } = gate();
    const forged = (i: number): RPC.Message => gossipMessage(topic, text(`forged ${i}`), member, i);
    await receive(
      'forger',
      Array.from({ length: HANDED_OVER.calls + 50 }, (_, i) => forged(i)),
    );
    expect(passed).toHaveLength(HANDED_OVER.calls);
    expect(dropped).toEqual({ 'too-many': 50 });
    // The author itself still has all of its own quota.
    await receive(member.peerId, [gossipMessage(topic, text('my own'), member)]);
    expect(passed.at(-1)).toBe('my own');
    clock.advance(HANDED_OVER.perMs);
    await receive('forger', [forged(9_999)]);
    expect(passed.at(-1)).toBe('forged 9999');
  });
});

describe('a flood', () => {
  it('of 5,000 keys behind one peer is dropped whole, and the peer is read slower after its quota', async () => {
    const { clock, receive, passed, dropped } = gate();
    // The RPC itself also counts as a call.
    await receive('flooder', flood(UNWANTED.calls - 1));
    let read = 0;
    const more = receive('flooder', flood(5_000)).then(() => read++);
    // The host still reads another peer at once.
    await receive(member.peerId, [gossipMessage(topic, text('mine'), member)]);
    expect(passed).toEqual(['mine']);
    await new Promise(setImmediate);
    expect(read).toBe(0);
    expect(await pausesUntil(more, clock)).toBeGreaterThanOrEqual(2_000);
    expect(dropped).toEqual({ 'not-admitted': UNWANTED.calls - 1 + 5_000 });
  });

  it('of several addresses pauses them in turns', async () => {
    const { clock, receive } = gate();
    const done: string[] = [];
    const all = ['a1', 'a2', 'a3', 'b1'].map((peer) =>
      receive(peer, flood(UNWANTED.calls + 500)).then(() => done.push(peer)),
    );
    await pausesUntil(Promise.all(all), clock);
    // The addresses take turns, so the only peer of its address does not wait for all peers of the other.
    expect(done[0]).toBe('b1');
  });

  it('on several streams of a peer is not read faster than on one', async () => {
    const { clock, receive } = gate();
    const streams = [0, 1, 2].map(() => receive('flooder', flood(500)));
    const excess = 3 * 501 - UNWANTED.calls;
    expect(await pausesUntil(Promise.all(streams), clock)).toBeGreaterThanOrEqual(excess / 2);
  });

  it('of RPCs without messages, or of subscriptions, slows the peer down, too', async () => {
    for (const subscriptions of [[], [{ subscribe: true, topic }]]) {
      const { clock, runtime } = gate();
      const send = () => runtime.handleReceivedRpc(peerNamed('idler'), { subscriptions, messages: [] });
      const each = 1 + subscriptions.length;
      for (let i = 0; i < UNWANTED.calls / each; i++) await send();
      expect(clock.due()).toEqual([]);
      void send();
      while (clock.due().length === 0) await new Promise(setImmediate);
      expect(clock.due()).toHaveLength(1);
    }
  });

  it('lowers the score softly, and is forgiven', async () => {
    const { clock, guard, receive } = gate();
    // The RPC itself also counts as a call.
    await receive('flooder', flood(UNWANTED.calls - 1));
    expect(guard.softScore('flooder')).toBeGreaterThan(-0.1);
    for (let i = 0; i < 10_000; i++) guard.judged('flooder', 'ignore');
    expect(guard.softScore('flooder')).toBe(LOWEST_SOFT_SCORE);
    // gossipsub ignores a peer completely below -80.
    expect(LOWEST_SOFT_SCORE).toBeGreaterThan(-80);
    clock.advance(5 * 60_000);
    expect(guard.softScore('flooder')).toBeGreaterThan(-0.1);
  });

  it('does not cost a relay its score that hands over messages that are accepted, too', async () => {
    const { guard } = gate();
    for (let i = 0; i < 2_000; i++) {
      guard.judged('relay', 'ignore');
      if (i % 4 === 0) guard.judged('relay', 'accept');
    }
    expect(guard.softScore('relay')).toBeGreaterThan(-0.1);
  });
});
