import { expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import type { PeerConnection } from '../../../../net/network.ts';
import { CHECK_LIFETIME_MS, Reachability } from '../../../../net/reach/reachability.ts';
import type { ReachResult } from '../../../../protocol/requests/reach-request.ts';
import type { RpcResponse } from '../../../../protocol/requests/rpc.ts';
import { eventually } from '../../../utils/eventually.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';
import { recordingLog } from '../../../utils/swarm/hosts.ts';
import { signerOf } from '../../../utils/swarm/signers.ts';

const SELF = signerOf(1).peerId;
const PUBLIC = `/ip4/8.8.4.4/tcp/4040/p2p/${SELF}`;
const NAMED = `/dns4/swarm.example/tcp/4041/p2p/${SELF}`;
const LOCAL = `/ip4/192.168.1.2/tcp/4040/p2p/${SELF}`;

type Answer = RpcResponse<'reach'>;

/** Checks the addresses with peers that connect from `from` and answer as `answers` says. */
function setUp({
  addresses = [LOCAL, PUBLIC],
  from,
  answers,
}: {
  addresses?: string[];
  from: Record<string, string>;
  answers: Record<string, Answer | SwarmError>;
}) {
  const clock = new ManualClock();
  const asked: { peer: string; ports: readonly number[] }[] = [];
  const connections = Object.entries(from).map(
    ([peer, ip]): PeerConnection => ({
      ...{ peer, direction: 'inbound', rttMs: null, connectedAt: 0 },
      address: `/ip4/${ip}/tcp/1000/p2p/${signerOf(2).peerId}`,
    }),
  );
  const reachability = new Reachability(
    { self: SELF },
    {
      clock,
      log: recordingLog([]),
      random: () => 0.5,
      addresses: () => addresses,
      peers: () => connections,
      networkOf: (peer) => from[peer]!,
      request: async (peer, { ports }) => {
        asked.push({ peer, ports });
        const answer = answers[peer]!;
        if (answer instanceof SwarmError) throw answer;
        return answer;
      },
      lookup: async (name) => (name === 'swarm.example' ? ['8.8.8.8'] : Promise.reject(new Error('unknown'))),
    },
  );
  return { reachability, clock, asked, answers, connections };
}

const says = (ip: string, results: Record<number, ReachResult>): Answer => ({
  ip,
  results: Object.entries(results).map(([port, result]) => ({ port: Number(port), result })),
});
const REFUSED = new SwarmError('RPC_REFUSED', 'refused', {});

it('has no results before a check', () => {
  const { reachability } = setUp({ from: {}, answers: {} });
  expect(reachability.view()).toEqual([
    { address: LOCAL, announced: true, reach: 'local network', check: null },
    { address: PUBLIC, announced: true, reach: 'internet', check: null },
  ]);
});

it('shows for each announced address what a peer on the internet found', async () => {
  const { reachability, clock } = setUp({
    from: { far: '9.9.9.9', near: '192.168.1.3' },
    answers: { far: says('8.8.4.4', { 4040: 'timeout' }), near: says('192.168.1.2', { 4040: 'reached' }) },
  });
  expect(await reachability.check()).toBe(2);
  clock.advance(5_000);
  const secondsAgo = 5;
  expect(reachability.view().map(({ check }) => check)).toEqual([
    { result: 'reached', peer: 'near', from: 'local network', secondsAgo },
    { result: 'timeout', peer: 'far', from: 'internet', secondsAgo },
  ]);
  clock.advance(CHECK_LIFETIME_MS);
  expect(reachability.view().map(({ check }) => check)).toEqual([null, null]);
});

it('believes one peer on the internet that reached the address more than one that did not, or than a near one', async () => {
  const { reachability } = setUp({
    from: { liar: '9.9.9.9', honest: '9.9.9.10', near: '192.168.1.3' },
    answers: {
      liar: says('8.8.4.4', { 4040: 'refused' }),
      honest: says('8.8.4.4', { 4040: 'reached' }),
      near: says('8.8.4.4', { 4040: 'timeout' }),
    },
  });
  await reachability.check();
  expect(reachability.view()[1]!.check).toMatchObject({ result: 'reached', peer: 'honest' });
});

it('does not hide a new failure behind an older success of another peer', async () => {
  const from: Record<string, string> = { first: '9.9.9.9', second: '9.9.9.10' };
  const answers: Record<string, Answer | SwarmError> = {
    first: says('8.8.4.4', { 4040: 'reached' }),
    second: says('8.8.4.4', { 4040: 'refused' }),
  };
  const { reachability, clock, connections } = setUp({ from, answers });
  const [second] = connections.splice(1, 1);
  await reachability.check();
  connections.splice(0, 1, second!);
  clock.advance(10 * 60_000);
  await reachability.check();
  expect(reachability.view()[1]!.check).toMatchObject({ result: 'refused', peer: 'second' });
});

it('does not count a peer behind the same router as a peer on the internet', async () => {
  const { reachability } = setUp({
    from: { neighbour: '8.8.4.4' },
    answers: { neighbour: says('8.8.4.4', { 4040: 'reached' }) },
  });
  await reachability.check();
  expect(reachability.view()[1]!.check).toMatchObject({ result: 'reached', from: 'local network' });
});

it('lists the addresses at which peers see the host although they are not announced, but not without limit', async () => {
  const liars = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`liar ${i}`, `9.9.9.${i}`]));
  const answers = Object.fromEntries(
    Object.keys(liars).map((peer, i) => [peer, says(`7.7.7.${i}`, { 4040: 'reached', 22: 'reached' })]),
  );
  const { reachability } = setUp({ from: liars, answers });
  for (let i = 0; i < 8; i++) await reachability.check();
  const observed = reachability.view().slice(2);
  expect(observed).toHaveLength(3);
  for (const one of observed) {
    expect(one).toMatchObject({ announced: false, reach: 'internet' });
    // The host has not asked about port 22, so the answers about this port do not count.
    expect(one.address).toMatch(/^\/ip4\/7\.7\.7\.\d\/tcp\/4040\/p2p\//);
  }
});

it('compares an announced host name with the address that the name has', async () => {
  const { reachability, asked } = setUp({
    addresses: [NAMED, `/dns4/unknown.example/tcp/4041/p2p/${SELF}`],
    from: { far: '9.9.9.9' },
    answers: { far: says('8.8.8.8', { 4041: 'reached' }) },
  });
  await reachability.check();
  expect(asked).toEqual([{ peer: 'far', ports: [4041] }]);
  expect(reachability.view().map(({ check }) => check?.result)).toEqual(['reached', undefined]);
});

it('asks peers on the internet first, one of each network, and the next one if a peer refuses', async () => {
  const { reachability, asked } = setUp({
    from: { near: '192.168.1.3', a: '9.9.9.9', twin: '9.9.9.9', b: '9.9.9.10', c: '9.9.9.11' },
    answers: {
      a: REFUSED,
      twin: REFUSED,
      b: says('8.8.4.4', { 4040: 'reached' }),
      c: REFUSED,
      near: says('192.168.1.2', { 4040: 'reached' }),
    },
  });
  expect(await reachability.check()).toBe(2);
  expect(asked.map(({ peer }) => peer)).toEqual(['a', 'b', 'c', 'near', 'twin']);
});

it('checks soon after the start, again soon if no peer answers, and later seldom', async () => {
  const { reachability, clock, asked, answers } = setUp({
    from: { far: '9.9.9.9' },
    answers: { far: REFUSED },
  });
  reachability.start();
  expect(clock.due()).toEqual([10_000]);
  clock.advance(10_000);
  await eventually(() => clock.due().length === 1);
  expect(clock.due()).toEqual([30_000]);
  answers.far = says('8.8.4.4', { 4040: 'reached' });
  clock.advance(30_000);
  await eventually(() => clock.due().length === 1);
  expect(clock.due()).toEqual([600_000]);
  expect(asked).toHaveLength(2);
  reachability.stop();
  expect(clock.due()).toEqual([]);
});
