import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../common/time/system-clock.ts';
import { Gossip } from '../../net/gossip.ts';
import { topicMessageBytes } from '../../net/libp2p/gossip-service.ts';
import { noMeter } from '../../net/meter.ts';
import type { GossipVerdict } from '../../net/network.ts';
import { Shares } from '../../net/shares.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import { eventually } from '../utils/eventually.ts';
import { withCode } from '../utils/source/codes.ts';
import { listen, untilHeard } from '../utils/swarm/gossip-listeners.ts';
import { join, rawGossip, rawStream, recordingLog, startHost, startRaw } from '../utils/swarm/hosts.ts';

const job = createHash('sha256').update('gossip tests').digest('hex');
const updates = jobTopic(job, 'updates');
const heads = jobTopic(job, 'heads');
const peers = jobTopic(job, 'peers');

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
      meter: noMeter,
      memory: new Shares({ meter: noMeter }).gossip,
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
    // Scores are updated once a second. So the hostile peer sends batches until one is ignored, while messages of the
    // honest host still arrive.
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
