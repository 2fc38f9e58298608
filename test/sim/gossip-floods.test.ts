import { createHash, randomBytes } from 'node:crypto';
import type { Stream } from '@libp2p/interface';
import { describe, expect, it } from 'vitest';
import { noMeter } from '../../net/meter.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import { eventually } from '../utils/eventually.ts';
import { ManualClock } from '../utils/manual-clock.ts';
import { gossipFrames, gossipMessage, strangerSigner } from '../utils/swarm/gossip-messages.ts';
import { join, rawStream, startAttacker, startHost, startRaw } from '../utils/swarm/hosts.ts';

const job = createHash('sha256').update('gossip tests').digest('hex');
const updates = jobTopic(job, 'updates');
const peers = jobTopic(job, 'peers');

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

/** Numbers of addresses to flood from. Only Linux lets a process use several loopback addresses without setting them up. */
const flooded = process.platform === 'linux' ? [1, 16] : [1];

describe.each(flooded)('a flood from %i addresses', (addresses) => {
  it.each([peers, updates])(
    'of correctly signed messages of 5,000 unknown keys to %s: none is verified, and all honest messages arrive',
    async (topic) => {
      const dropped: Record<string, number> = {};
      const meter = {
        ...noMeter,
        gossipDropped: (reason: string, count: number) => {
          dropped[reason] = (dropped[reason] ?? 0) + count;
        },
      };
      const [host, honest] = await Promise.all([startHost({ meter }), startHost()]);
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
