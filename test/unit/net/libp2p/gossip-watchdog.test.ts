import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Watchdog } from '../../../../net/libp2p/gossip-watchdog.ts';
import { jobTopic } from '../../../../protocol/job/topics.ts';
import { eventually } from '../../../utils/eventually.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import {
  rawGossip,
  recordingLog,
  soon,
  startHost,
  startRaw,
  type TestHost,
} from '../../../utils/swarm/hosts.ts';

const topic = jobTopic('cd'.repeat(32), 'updates');

describe('Watchdog', () => {
  function watch(survey: () => { peer: string; connectedAt: number; flows: boolean }[]) {
    const clock = new ManualClock();
    const reconnected: string[] = [];
    const logged: TestHost['logged'] = [];
    const watchdog = new Watchdog(
      { intervalMs: 1000, graceMs: 3000 },
      {
        clock,
        log: recordingLog(logged),
        survey: async () => survey(),
        reconnect: async (peer) => {
          reconnected.push(peer);
          if (peer === 'unlucky') throw new Error('unreachable');
        },
      },
    );
    return { clock, watchdog, reconnected, logged };
  }

  it('reconnects a peer only after it was silent for the grace time', async () => {
    let flows = true;
    const { clock, watchdog, reconnected } = watch(() => [{ peer: 'p', connectedAt: 0, flows }]);
    const pass = async (ms: number) => {
      clock.advance(ms);
      await watchdog.check();
    };
    await pass(10_000);
    flows = false;
    await pass(1000);
    await pass(2999);
    expect(reconnected).toEqual([]);
    flows = true;
    await pass(1);
    flows = false;
    await pass(1);
    await pass(3000);
    expect(reconnected).toEqual(['p']);
  });

  it('waits for new connections, and retries a failed reconnection', async () => {
    let connectedAt = 0;
    const { clock, watchdog, reconnected, logged } = watch(() => [
      { peer: 'unlucky', connectedAt, flows: false },
    ]);
    connectedAt = clock.now();
    const pass = async (ms: number) => {
      clock.advance(ms);
      await watchdog.check();
    };
    await pass(2999);
    await pass(1);
    await pass(2999);
    expect(reconnected).toEqual([]);
    await pass(1);
    await pass(1000);
    await pass(3000);
    expect(reconnected).toEqual(['unlucky', 'unlucky']);
    expect(logged.filter(({ action }) => action === 'gossip-repair-failed')).toHaveLength(2);
  });

  it('works after the clock was set back to before the connection', async () => {
    const { clock, watchdog, reconnected } = watch(() => [
      { peer: 'p', connectedAt: 1_700_000_000_000, flows: false },
    ]);
    clock.set(-3_600_000);
    await watchdog.check();
    clock.advance(3000);
    await watchdog.check();
    expect(reconnected).toEqual(['p']);
  });

  it('checks again and again until it is stopped, also after an error', async () => {
    let surveys = 0;
    const { clock, watchdog } = watch(() => {
      surveys++;
      if (surveys === 1) throw new Error('survey failed');
      return [];
    });
    watchdog.start();
    for (let i = 1; i <= 3; i++) {
      clock.advance(1000);
      await eventually(() => surveys === i && clock.due().length === 1);
    }
    watchdog.stop();
    expect(clock.due()).toEqual([]);
  });
});

describe('a host whose gossip stream to a peer ended', () => {
  it.each(['outbound', 'inbound'] as const)('reconnects if the %s stream broke', async (direction) => {
    const host = await startHost({ watchdog: { intervalMs: 30, graceMs: 200 } });
    const raw = await startRaw();
    const gossip = rawGossip(raw);
    const heard: string[] = [];
    gossip.subscribe(topic, ({ data }) => {
      heard.push(Buffer.from(data).toString('hex'));
      return 'accept';
    });
    await host.network.connect(raw.getMultiaddrs()[0]!.toString(), { signal: soon() });
    const isHeard = async () => {
      const word = randomBytes(8);
      await host.network.publish(topic, word);
      return eventually(() => heard.includes(word.toString('hex')), { timeout: 200 }).catch(() => false);
    };
    await eventually(isHeard);

    const [connection] = raw.getConnections();
    const streams = connection!.streams.filter(
      (stream) => stream.protocol.startsWith('/meshsub/') && stream.direction === direction,
    );
    expect(streams.length).toBeGreaterThan(0);
    for (const stream of streams) stream.abort(new Error('broken on purpose'));

    await eventually(() => host.logged.some(({ action }) => action === 'gossip-silent'));
    await eventually(() => raw.getConnections().length > 0 && raw.getConnections()[0] !== connection);
    await eventually(isHeard);
  });
});
