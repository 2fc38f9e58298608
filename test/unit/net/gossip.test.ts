import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { Gossip, topicMessageBytes } from '../../../net/gossip.ts';
import type { GossipVerdict } from '../../../net/network.ts';
import { jobTopic } from '../../../protocol/topics.ts';
import { eventually } from '../../utils/eventually.ts';
import { join, rawStream, recordingLog, startHost, startRaw, type TestHost } from '../../utils/hosts.ts';

const job = createHash('sha256').update('gossip tests').digest('hex');
const updates = jobTopic(job, 'updates');
const heads = jobTopic(job, 'heads');
const peers = jobTopic(job, 'peers');

/** Subscribes with a fixed verdict and keeps what arrives. */
function listen(host: TestHost, topic: string, verdict: GossipVerdict = 'accept') {
  const heard: { from: string; via: string; text: string }[] = [];
  const leave = host.network.subscribe(topic, ({ from, via, data }) => {
    heard.push({ from, via, text: Buffer.from(data).toString() });
    return verdict;
  });
  return { heard, leave };
}

/** Publishes numbered texts until one has arrived at each listener: subscriptions travel in their own time. */
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
    { what: `everybody hearing "${label}"` },
  );
}

describe('gossip among hosts', () => {
  test('reaches every subscriber over peers in between, with author and carrier', async () => {
    const [a, b, c, d] = await Promise.all([startHost(), startHost(), startHost(), startHost()]);
    // A line: what d hears from a has been passed on by b and c.
    await join(a, b);
    await join(b, c);
    await join(c, d);
    const listeners = [b, c, d].map((host) => listen(host, updates));
    await untilHeard(a, updates, listeners, 'along the line');
    const [first] = listeners[2]!.heard;
    expect(first).toMatchObject({ from: a.peer, via: c.peer });
  });

  test('what a peer ignores or rejects is not passed on by it', async () => {
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

  test('a handler that throws drops the message and is reported', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    await join(a, b);
    b.network.subscribe(updates, () => {
      throw new Error('handler broke');
    });
    await eventually(async () => {
      await a.network.publish(updates, randomBytes(8));
      return b.logged.some(({ action }) => action === 'gossip.handler_failed');
    });
  });

  test('a head reaches all subscribers of a hub at once, more than a mesh holds', async () => {
    const hub = await startHost();
    const nodes = await Promise.all(Array.from({ length: 10 }, () => startHost()));
    await Promise.all(nodes.map((node) => join(node, hub)));
    const listeners = nodes.map((node) => listen(node, heads));
    await eventually(async () => (await hub.network.publish(heads, randomBytes(16))) === nodes.length, {
      what: 'the hub knowing all subscribers',
    });
    await eventually(() => listeners.every(({ heard }) => heard.length > 0));
  });

  test('fourteen hosts on one address hear each other', async () => {
    // gossipsub's default colocation penalty mutes the twelfth peer on an address and ignores the fifteenth.
    const hub = await startHost();
    const nodes = await Promise.all(Array.from({ length: 14 }, () => startHost()));
    await Promise.all(nodes.map((node) => join(node, hub)));
    const listeners = [hub, ...nodes].map((host) => listen(host, updates));
    await untilHeard(hub, updates, listeners.slice(1), 'from the hub');
    await untilHeard(nodes.at(-1)!, updates, listeners.slice(0, -1), 'from the last');
  });

  test('a message larger than its topic allows is refused at both ends', async () => {
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

  test('a peer whose messages are rejected again and again is no longer heard', async () => {
    const host = await startHost();
    const hostile = await startRaw();
    await rawStream(hostile, host, '/ipfs/ping/1.0.0');
    const judged: string[] = [];
    host.network.subscribe(updates, ({ from, data }) => {
      judged.push(`${from} ${Buffer.from(data).toString()}`);
      return from === hostile.peerId.toString() ? 'reject' : 'accept';
    });
    const pubsub = new Gossip({ pubsub: hostile.services.pubsub, log: recordingLog([]) });
    const honest = await startHost();
    await join(honest, host);
    // Scores are looked at once a second, so it takes a moment until a batch goes unheard while honest words arrive.
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

  test('only our own topics exist', async () => {
    const host = await startHost();
    expect(() => host.network.subscribe('/somebody/else', () => 'accept')).toThrow(
      expect.objectContaining({ code: 'TOPIC_UNKNOWN' }),
    );
    await expect(host.network.publish('/somebody/else', new Uint8Array(1))).rejects.toMatchObject({
      code: 'TOPIC_UNKNOWN',
    });
  });

  test('leaving a topic ends delivery and publishing to nobody is not an error', async () => {
    const [a, b] = await Promise.all([startHost(), startHost()]);
    expect(await a.network.publish(updates, randomBytes(8))).toBe(0);
    await join(a, b);
    const { heard, leave } = listen(b, updates);
    await untilHeard(a, updates, [{ heard }], 'here');
    leave();
    await eventually(async () => (await a.network.publish(updates, randomBytes(8))) === 0);
  });
});
