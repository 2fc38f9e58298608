import { expect, it } from 'vitest';
import { serviceOf } from '../../../../net/libp2p/local-discovery.ts';
import { eventually } from '../../../utils/eventually.ts';
import { startHost, type TestHost } from '../../../utils/swarm/hosts.ts';
import { multicastProblem } from '../../../utils/swarm/multicast.ts';

const problem = await multicastProblem();

/** Unique names: other runs of this test may share the local network. */
const coordinator = `coordinator ${crypto.randomUUID()}`;
const other = `other ${crypto.randomUUID()}`;

const sees = (host: TestHost, peer: TestHost) =>
  host.network.peers().some((known) => known.peer === peer.peer);
const meet = (a: TestHost, b: TestHost) =>
  eventually(() => sees(a, b) && sees(b, a), { what: 'the meeting' });

it('has a service name per coordinator, in valid DNS labels', () => {
  expect(serviceOf(coordinator)).toBe(serviceOf(coordinator));
  expect(serviceOf(coordinator)).not.toBe(serviceOf(other));
  for (const label of serviceOf(coordinator).split('.')) expect(label).toMatch(/^[a-z_][a-z0-9_-]{0,62}$/);
});

it('connects the peers of one coordinator in the local network, and no others', async ({ skip }) => {
  skip(problem !== null, problem ?? undefined);
  const stranger = await startHost({ mdns: [other] });
  const first = await startHost({ mdns: [coordinator] });
  const second = await startHost({ mdns: [coordinator] });
  await meet(first, second);
  // The stranger meets the neighbour, which shows that its discovery works.
  const neighbour = await startHost({ mdns: [other] });
  await meet(stranger, neighbour);
  const third = await startHost({ mdns: [coordinator] });
  await Promise.all([meet(third, first), meet(third, second)]);
  for (const host of [first, second, third]) {
    expect(host.network.peers()).toHaveLength(2);
    expect(sees(host, stranger) || sees(host, neighbour)).toBe(false);
  }
});

it('connects a peer of two coordinators to the peers of both', async ({ skip }) => {
  skip(problem !== null, problem ?? undefined);
  const [one, two] = await Promise.all([startHost({ mdns: [coordinator] }), startHost({ mdns: [other] })]);
  const both = await startHost({ mdns: [coordinator, other] });
  await Promise.all([meet(both, one), meet(both, two)]);
  expect(sees(one, two)).toBe(false);
});

it('does not connect a host with mDNS turned off', async ({ skip }) => {
  skip(problem !== null, problem ?? undefined);
  const silent = await startHost({ mdns: [] });
  const [a, b] = [await startHost({ mdns: [coordinator] }), await startHost({ mdns: [coordinator] })];
  await meet(a, b);
  expect(silent.network.peers()).toEqual([]);
});
