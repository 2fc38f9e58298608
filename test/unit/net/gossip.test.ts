import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Stream } from '@libp2p/interface';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../common/system-clock.ts';
import { Gossip } from '../../../net/gossip.ts';
import { topicMessageBytes } from '../../../net/gossip-service.ts';
import type { GossipVerdict } from '../../../net/network.ts';
import { noObserver } from '../../../net/observer.ts';
import { Shares } from '../../../net/shares.ts';
import { jobTopic } from '../../../protocol/topics.ts';
import { withCode } from '../../utils/codes.ts';
import { eventually } from '../../utils/eventually.ts';
import { gossipFrames, gossipMessage, strangerSigner } from '../../utils/gossip-messages.ts';
import {
  join,
  rawGossip,
  rawStream,
  recordingLog,
  startAttacker,
  startHost,
  startRaw,
  type TestHost,
} from '../../utils/hosts.ts';
import { ManualClock } from '../../utils/manual-clock.ts';

const job = createHash('sha256').update('gossip tests').digest('hex');
const updates = jobTopic(job, 'updates');
const heads = jobTopic(job, 'heads');
const peers = jobTopic(job, 'peers');

/** Subscribes with a fixed verdict and records the messages. */
function listen(host: TestHost, topic: string, verdict: GossipVerdict = 'accept') {
  const heard: { from: string; via: string; text: string }[] = [];
  const leave = host.network.subscribe(topic, ({ from, via, data }) => {
    heard.push({ from, via, text: Buffer.from(data).toString() });
    return verdict;
  });
  return { heard, leave };
}

/** Publishes numbered texts until one has reached each listener: subscriptions take time to spread. */
async function untilHeard(
  from: TestHost,
  topic: string,
  listeners: { heard: { text: string }[] }[],
  label: string,
) {
  let n = 0;
  await eventually(
    async () => {
      await from.network.publish(topic, Buffer.from(`${label} ${n++}`));
      return listeners.every(({ heard }) => heard.some(({ text }) => text.startsWith(label)));
    },
    { what: `all listeners receiving "${label}"` },
  );
}

const GOSSIP = '/meshsub/1.2.0';

/** Sends frames on a stream until all are sent, or until the other side has stopped reading. Returns the bytes sent. */
async function sendFrames(
  stream: Stream,
  frames: Iterable<Uint8Array>,
): Promise<{ sent: number; stuck: boolean }> {
  let sent = 0;
  for (const frame of frames) {
    sent += frame.byteLength;
    if (stream.send(frame)) continue;
    const drained = await new Promise<boolean>((resolve) => {
      // The method onDrain waits only the first time (docs/decisions/040-network.md).
      stream.addEventListener('drain', () => resolve(true), { once: true });
      setTimeout(() => resolve(false), 1_500);
    });
    if (!drained) return { sent, stuck: true };
  }
  return { sent, stuck: false };
}

describe('messages of nodes', () => {
  it('are not forwarded by a coordinator, which only reads them', async () => {
    const [node, coordinator, stranger] = await Promise.all([startHost(), startHost(), startHost()]);
    await Promise.all([join(node, coordinator), join(stranger, coordinator)]);
    const read: string[] = [];
    coordinator.network.subscribe(
      updates,
      ({ data }) => {
        read.push(Buffer.from(data).toString());
        return 'accept';
      },
      { forwards: false },
    );
    coordinator.network.subscribe(heads, () => 'accept');
    const overheard = listen(stranger, updates);
    const forwarded = listen(stranger, heads);
    let n = 0;
    await eventually(async () => {
      await node.network.publish(updates, Buffer.from(`update ${n}`));
      await node.network.publish(heads, Buffer.from(`head ${n++}`));
      return read.length > 4 && forwarded.heard.length > 4;
    });
    // gossipsub offers messages to further peers at its heartbeats.
    await pause(2_500);
    expect(overheard.heard).toEqual([]);
  });

  it('reach only the peers in whom the node confides, whichever peers subscribe', async () => {
    const [coordinator, stranger] = await Promise.all([startHost(), startHost()]);
    const node = await startHost({ confidants: [coordinator.peer] });
    await Promise.all([join(stranger, node), join(coordinator, node)]);
    const [read, overheard] = [listen(coordinator, updates), listen(stranger, updates)];
    const ofHeads = listen(stranger, heads);
    await untilHeard(node, updates, [read], 'update');
    await untilHeard(node, heads, [ofHeads], 'head');
    await pause(2_500);
    expect(overheard.heard).toEqual([]);
  });
});

/** Processes on other systems than Linux cannot use further loopback addresses without setting them up. */
const flooded = process.platform === 'linux' ? [1, 16] : [1];

describe.each(flooded)('a flood from %i addresses', (addresses) => {
  it.each([peers, updates])(
    'of correctly signed messages of 5,000 unknown keys to %s: none is verified, and all honest messages arrive',
    async (topic) => {
      const dropped: Record<string, number> = {};
      const observer = {
        ...noObserver,
        gossipDropped: (reason: string, count: number) => {
          dropped[reason] = (dropped[reason] ?? 0) + count;
        },
      };
      const [host, honest] = await Promise.all([startHost({ observer }), startHost()]);
      await join(honest, host);
      const heard: string[] = [];
      host.network.subscribe(
        topic,
        ({ from, data }) => {
          heard.push(`${from} ${Buffer.from(data)}`);
          return 'accept';
        },
        { admits: (author) => author === honest.peer },
      );
      await eventually(async () => {
        await honest.network.publish(topic, Buffer.from('first'));
        return heard.length > 0;
      });
      const flood = Array.from({ length: 5_000 }, (_, i) =>
        gossipMessage(topic, Buffer.from(`junk ${i}`), strangerSigner(i)),
      );
      const sending = Promise.all(
        Array.from({ length: addresses }, async (_, i) => {
          const hostile = await startAttacker(
            process.platform === 'linux' ? `127.0.0.${2 + i}` : '127.0.0.1',
          );
          const stream = await rawStream(hostile, host, GOSSIP);
          return sendFrames(stream, gossipFrames(flood.filter((_message, n) => n % addresses === i)));
        }),
      );
      const words = Array.from({ length: 20 }, (_, i) => `honest ${i}`);
      for (const word of words) await honest.network.publish(topic, Buffer.from(word));
      expect((await sending).some(({ stuck }) => stuck)).toBe(false);
      await eventually(() => dropped['not-admitted'] === flood.length);
      await eventually(() => words.every((word) => heard.includes(`${honest.peer} ${word}`)));
      expect(heard.filter((line) => !line.startsWith(honest.peer))).toEqual([]);
      expect(dropped).toEqual({ 'not-admitted': flood.length });
    },
  );
});

describe('a flood on one connection', () => {
  it('is not read faster than it is handled, so it fills no memory', async () => {
    // With this clock, the pause of a peer that exceeds its quota never ends.
    const host = await startHost({ clock: new ManualClock() });
    host.network.subscribe(peers, () => 'accept', { admits: () => false });
    const hostile = await startRaw();
    const stream = await rawStream(hostile, host, GOSSIP);
    const [frame] = gossipFrames(
      Array.from({ length: 1_000 }, (_, i) => gossipMessage(peers, randomBytes(100), strangerSigner(i))),
      1_000,
    );
    const frames = Array.from({ length: 200 }, () => frame!);
    const total = frames.length * frame!.byteLength;
    const { sent, stuck } = await sendFrames(stream, frames);
    expect(stuck).toBe(true);
    expect(sent).toBeLessThan(total / 4);
  });
});

describe('gossip among hosts', () => {
  it('reaches every subscriber over other peers, with its author and forwarder', async () => {
    const [a, b, c, d] = await Promise.all([startHost(), startHost(), startHost(), startHost()]);
    // A line: messages from a reach d through b and c.
    await join(a, b);
    await join(b, c);
    await join(c, d);
    const listeners = [b, c, d].map((host) => listen(host, updates));
    await untilHeard(a, updates, listeners, 'along the line');
    const [first] = listeners[2]!.heard;
    expect(first).toMatchObject({ from: a.peer, via: c.peer });
  });

  it('can publish a message again that found a subscriber without a stream', async () => {
    const sent: string[] = [];
    const streams = new Map<string, object>();
    const gossip = new Gossip({
      pubsub: {
        addEventListener: () => {},
        createInboundStream: () => {},
        handleReceivedRpc: async () => {},
        score: { params: {} },
        getSubscribers: () => ['a subscriber'],
        streamsOutbound: streams,
        publish: async (_topic: string, data: Uint8Array) => {
          sent.push(Buffer.from(data).toString());
          return { recipients: ['a subscriber'] };
        },
      },
      clock: systemClock,
      log: recordingLog([]),
      observer: noObserver,
      memory: new Shares({ observer: noObserver }).gossip,
      networkOf: (peer) => peer,
    });
    expect(await gossip.publish(updates, Buffer.from('update'))).toBe(0);
    expect(sent).toEqual([]);
    streams.set('a subscriber', {});
    expect(await gossip.publish(updates, Buffer.from('update'))).toBe(1);
    expect(sent).toEqual(['update']);
  });

  it('does not forward messages that a peer ignores or rejects', async () => {
    const [a, b, c] = await Promise.all([startHost(), startHost(), startHost()]);
    await join(a, b);
    await join(b, c);
    let verdict: GossipVerdict = 'accept';
    const seen: string[] = [];
    b.network.subscribe(updates, ({ data }) => {
      seen.push(Buffer.from(data).toString());
      return verdict;
    });
    const end = listen(c, updates);
    await untilHeard(a, updates, [end], 'open');
    for (verdict of ['ignore', 'reject'] as const) {
      const text = `withheld: ${verdict}`;
      await a.network.publish(updates, Buffer.from(text));
      await eventually(() => seen.includes(text), { what: `b judging "${text}"` });
    }
    verdict = 'accept';
    await untilHeard(a, updates, [end], 'open again');
    expect(end.heard.filter(({ text }) => text.startsWith('withheld'))).toEqual([]);
  });

  it('drops the message of a handler that throws, and logs the error', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    await join(a, b);
    b.network.subscribe(updates, () => {
      throw new Error('handler failed');
    });
    await eventually(async () => {
      await a.network.publish(updates, randomBytes(8));
      return b.logged.some(({ action }) => action === 'gossip-handler-failed');
    });
  });

  it('sends a head to all subscribers of a hub, more than a mesh holds', async () => {
    const hub = await startHost();
    const nodes = await Promise.all(Array.from({ length: 10 }, () => startHost()));
    await Promise.all(nodes.map((node) => join(node, hub)));
    const listeners = nodes.map((node) => listen(node, heads));
    await eventually(async () => (await hub.network.publish(heads, randomBytes(16))) === nodes.length, {
      what: 'the hub knowing all subscribers',
    });
    await eventually(() => listeners.every(({ heard }) => heard.length > 0));
  });

  it('connects fourteen hosts on one address', async () => {
    // The default penalty for peers behind one address mutes the twelfth peer and ignores the fifteenth.
    const hub = await startHost();
    const nodes = await Promise.all(Array.from({ length: 14 }, () => startHost()));
    await Promise.all(nodes.map((node) => join(node, hub)));
    const listeners = [hub, ...nodes].map((host) => listen(host, updates));
    await untilHeard(hub, updates, listeners.slice(1), 'from the hub');
    await untilHeard(nodes.at(-1)!, updates, listeners.slice(0, -1), 'from the last');
  });

  it('refuses a message above the limit of its topic at both ends', async () => {
    const [host] = await Promise.all([startHost()]);
    const limit = topicMessageBytes(peers)!;
    await expect(host.network.publish(peers, new Uint8Array(limit + 1))).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });

    const hostile = await startRaw();
    await rawStream(hostile, host, '/ipfs/ping/1.0.0');
    const heard: number[] = [];
    host.network.subscribe(peers, ({ data }) => {
      heard.push(data.byteLength);
      return 'accept';
    });
    const pubsub = hostile.services.pubsub as { publish(topic: string, data: Uint8Array): Promise<unknown> };
    await eventually(async () => {
      await pubsub.publish(peers, randomBytes(limit + 1));
      await pubsub.publish(peers, randomBytes(limit));
      return heard.length > 0;
    });
    expect(new Set(heard)).toEqual(new Set([limit]));
  });

  it('ignores a peer after repeated rejects', async () => {
    const host = await startHost();
    const hostile = await startRaw();
    await rawStream(hostile, host, '/ipfs/ping/1.0.0');
    const judged: string[] = [];
    host.network.subscribe(updates, ({ from, data }) => {
      judged.push(`${from} ${Buffer.from(data).toString()}`);
      return from === hostile.peerId.toString() ? 'reject' : 'accept';
    });
    const pubsub = rawGossip(hostile);
    const honest = await startHost();
    await join(honest, host);
    // Scores are updated once a second, so several batches pass until one is ignored while honest messages arrive.
    let batch = 0;
    await eventually(async () => {
      batch++;
      for (let i = 0; i < 12; i++) await pubsub.publish(updates, Buffer.from(`batch ${batch}: ${i}`));
      const words = `after batch ${batch}`;
      await honest.network.publish(updates, Buffer.from(words));
      await eventually(() => judged.includes(`${honest.peer} ${words}`), { timeout: 500 });
      return batch > 1 && !judged.some((line) => line.includes(`batch ${batch}: `));
    });
    expect(judged.length).toBeGreaterThan(9);
  });

  it('refuses foreign topics', async () => {
    const host = await startHost();
    expect(() => host.network.subscribe('/foreign/topic', () => 'accept')).toThrow(withCode('TOPIC_UNKNOWN'));
    await expect(host.network.publish('/foreign/topic', new Uint8Array(1))).rejects.toMatchObject({
      code: 'TOPIC_UNKNOWN',
    });
  });

  it('ends delivery on unsubscribe, and allows publishing without subscribers', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    expect(await a.network.publish(updates, randomBytes(8))).toBe(0);
    await join(a, b);
    const { heard, leave } = listen(b, updates);
    await untilHeard(a, updates, [{ heard }], 'here');
    leave();
    await eventually(async () => (await a.network.publish(updates, randomBytes(8))) === 0);
  });
});
