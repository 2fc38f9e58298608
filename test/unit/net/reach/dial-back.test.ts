import { connect } from 'node:net';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { FairPermits } from '../../../../common/limits/fair-permits.ts';
import { DialBack, REACH_QUOTA } from '../../../../net/reach/dial-back.ts';
import { DIAL_TIMEOUT_MS, REACH_PORTS } from '../../../../protocol/limits.ts';
import { rpcMethods } from '../../../../protocol/requests/rpc.ts';
import { eventually } from '../../../utils/eventually.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { withCode } from '../../../utils/source/codes.ts';
import { join, soon, startHost } from '../../../utils/swarm/hosts.ts';

/** Answers requests with a fake network, in which the probe of an address ends as `ends` says. */
function setUp({
  ends = async (_address: string, _signal: AbortSignal): Promise<void> => {},
  total = 4,
} = {}) {
  const clock = new ManualClock();
  const dialled: string[] = [];
  const refusals: string[] = [];
  const permits = new FairPermits(
    { total, reserved: total, withdraws: 'oldest' },
    { knows: () => true, onRefusal: (reason) => refusals.push(reason) },
  );
  const dialBack = new DialBack({
    clock,
    permits,
    isKnown: (peer) => !peer.startsWith('stranger'),
    probe: (address, signal) => {
      dialled.push(address);
      return ends(address, signal);
    },
  });
  const ask = (peer: string, ip: string | null, ports = [4040]) =>
    dialBack.answer(peer, { ports }, { ip, signal: new AbortController().signal });
  return { clock, dialled, refusals, permits, ask };
}

/** Never ends before its signal aborts, like a dial of an address behind a firewall. */
const silence = (_address: string, signal: AbortSignal): Promise<void> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

describe('a request to dial back', () => {
  it('makes the host dial only the IP address of the request, and each port once', async () => {
    const { ask, dialled } = setUp();
    expect(await ask('node', '198.51.100.7', [4040, 4041, 4040])).toEqual({
      ip: '198.51.100.7',
      results: [
        { port: 4040, result: 'reached' },
        { port: 4041, result: 'reached' },
      ],
    });
    await ask('node', '2001:db8::7');
    expect(dialled).toEqual([
      '/ip4/198.51.100.7/tcp/4040/p2p/node',
      '/ip4/198.51.100.7/tcp/4041/p2p/node',
      '/ip6/2001:db8::7/tcp/4040/p2p/node',
    ]);
  });

  it('names no address, and a limited number of ports', () => {
    const { request } = rpcMethods.reach;
    const ports = Array.from({ length: REACH_PORTS }, (_, i) => 4040 + i);
    expect(request.safeParse({ ports }).success).toBe(true);
    for (const wrong of [{ ports: [...ports, 1] }, { ports: [] }, { ports: [0] }, { ports, ip: '192.0.2.1' }])
      expect(request.safeParse(wrong).success).toBe(false);
  });

  it('is refused to strangers and over a relayed connection, without a dial', async () => {
    const { ask, dialled, permits } = setUp();
    await expect(ask('stranger', '198.51.100.7')).rejects.toEqual(withCode('DIAL_BACK_REFUSED'));
    await expect(ask('node', null)).rejects.toEqual(withCode('DIAL_BACK_REFUSED'));
    expect(dialled).toEqual([]);
    expect(permits.size).toBe(0);
  });

  it('has one quota for all identities at one address', async () => {
    const { ask, dialled, clock } = setUp();
    // The addresses of an IPv6 network belong to one machine.
    for (let i = 0; i < REACH_QUOTA.calls; i++) await ask(`node ${i}`, `2001:db8::${i + 1}`);
    await expect(ask('another', '2001:db8::ff')).rejects.toEqual(withCode('RPC_RATE_LIMITED'));
    expect(dialled).toHaveLength(REACH_QUOTA.calls);
    await ask('elsewhere', '2001:db8:1::1');
    clock.advance(REACH_QUOTA.perMs / REACH_QUOTA.calls);
    await ask('another', '2001:db8::ff');
  });

  it('shares the places fairly between addresses', async () => {
    const { ask, clock, refusals, permits } = setUp({ ends: silence });
    const first = Array.from({ length: 4 }, (_, i) => ask(`node ${i}`, '198.51.100.7'));
    const lost = expect(first[0]).rejects.toEqual(withCode('RPC_BUSY'));
    const other = ask('other', '198.51.100.8');
    await lost;
    await expect(ask('node 9', '198.51.100.7')).rejects.toEqual(withCode('RPC_BUSY'));
    expect(refusals).toEqual(['withdrawn', 'full']);
    clock.advance(DIAL_TIMEOUT_MS);
    expect((await other).results).toEqual([{ port: 4040, result: 'timeout' }]);
    await Promise.all(first.slice(1));
    expect(permits.size).toBe(0);
  });

  it('is answered with the reason of a failed dial', async () => {
    const failing = (message: string) => setUp({ ends: () => Promise.reject(new Error(message)) });
    const resultOf = async (message: string) =>
      (await failing(message).ask('node', '198.51.100.7')).results[0]!.result;
    expect(await resultOf('connect ECONNREFUSED 198.51.100.7:4040')).toBe('refused');
    expect(await resultOf('connect EHOSTUNREACH')).toBe('unroutable');
    expect(await resultOf('payload identity key does not match expected peer')).toBe('other-peer');
    expect(await resultOf('read ECONNRESET')).toBe('hung-up');
    expect(await resultOf('something else')).toBe('failed');
  });

  it('ends when the caller no longer waits', async () => {
    const clock = new ManualClock();
    const permits = new FairPermits(
      { total: 1, reserved: 1, withdraws: 'oldest' },
      { knows: () => true, onRefusal: () => {} },
    );
    const dialBack = new DialBack({ clock, permits, isKnown: () => true, probe: silence });
    const gone = new AbortController();
    const answer = dialBack.answer('node', { ports: [1] }, { ip: '192.0.2.1', signal: gone.signal });
    const reason = new SwarmError('GONE', 'gone', {});
    gone.abort(reason);
    await expect(answer).rejects.toBe(reason);
    expect(permits.size).toBe(0);
  });
});

describe('hosts', () => {
  const portOf = (address: string): number => Number(/\/tcp\/(\d+)/.exec(address)![1]);

  it('dial a member back at its own address, without a second connection', async () => {
    const [asking, asked, third] = await Promise.all([startHost(), startHost(), startHost()]);
    await join(asking, asked);
    const own = portOf(asking.network.addresses()[0]!);
    const others = portOf(third.network.addresses()[0]!);
    const request = (ports: number[]) =>
      asking.network.request(asked.peer, 'reach', { ports }, { signal: soon() });
    await expect(request([own])).rejects.toEqual(withCode('RPC_REFUSED', { code: 'DIAL_BACK_REFUSED' }));

    asked.network.reserveFor((peer) => peer === asking.peer);
    const changes = vi.fn();
    onTestFinished(asking.network.onPeer(changes));
    onTestFinished(third.network.onPeer(changes));
    const closed = await closedPort();
    expect(await request([own, others, closed])).toEqual({
      ip: '127.0.0.1',
      results: [
        { port: own, result: 'reached' },
        { port: others, result: 'other-peer' },
        { port: closed, result: 'refused' },
      ],
    });
    for (const host of [asking, asked]) expect(host.network.peers()).toHaveLength(1);
    expect(third.network.peers()).toEqual([]);
    expect(changes).not.toHaveBeenCalled();
  });

  it('can be called again after the check, and the checked host still accepts connections', async () => {
    const [asking, asked, third] = await Promise.all([startHost(), startHost(), startHost()]);
    await join(asking, asked);
    asked.network.reserveFor(() => true);
    const ports = [portOf(asking.network.addresses()[0]!)];
    for (let i = 0; i < rpcMethods.reach.quota.calls; i++) {
      const { results } = await asking.network.request(asked.peer, 'reach', { ports }, { signal: soon() });
      expect(results).toEqual([{ port: ports[0], result: 'reached' }]);
    }
    await expect(asking.network.request(asked.peer, 'reach', { ports }, { signal: soon() })).rejects.toEqual(
      withCode('RPC_REFUSED', { code: 'RPC_RATE_LIMITED' }),
    );
    await join(third, asking);
    await eventually(() => asking.network.peers().length === 2);
  });
});

/** Returns a port on which no program listens. */
async function closedPort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  const socket = connect(port, '127.0.0.1');
  await new Promise((resolve) => socket.once('error', resolve));
  return port;
}
