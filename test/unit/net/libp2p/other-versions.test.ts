import { multiaddr } from '@multiformats/multiaddr';
import { expect, test } from 'vitest';
import { LISTED_VERSIONS, OtherVersions } from '../../../../net/libp2p/other-versions.ts';

test('lists peers of other versions, but not any number of strangers at one address', () => {
  const target = new EventTarget();
  const addresses = new Map<string, string>();
  const versions = new OtherVersions({
    addEventListener: target.addEventListener.bind(target),
    getConnections: (peer: { toString(): string }) => [
      { remoteAddr: multiaddr(`/ip4/${addresses.get(peer.toString())}/tcp/1`) },
    ],
  } as never);
  const identify = (peer: string, ip: string, protocol: string): void => {
    addresses.set(peer, ip);
    const detail = { peerId: { toString: () => peer }, protocols: [protocol], agentVersion: 'x'.repeat(99) };
    target.dispatchEvent(new CustomEvent('peer:identify', { detail }));
  };
  identify('older', '10.0.0.1', '/lora-swarm/rpc/0');
  identify('unrelated', '10.0.0.1', '/other/1');
  expect(versions.list()).toEqual([{ peer: 'older', agent: 'x'.repeat(40) }]);
  for (let i = 0; i < 100; i++) identify(`stranger ${i}`, '10.0.0.2', '/lora-swarm/rpc/0');
  expect(versions.list()).toHaveLength(1 + LISTED_VERSIONS.perAddress);
  for (let i = 0; i < 600; i++) identify(`far ${i}`, `10.1.${i >> 8}.${i & 255}`, '/lora-swarm/rpc/0');
  expect(versions.list()).toHaveLength(LISTED_VERSIONS.total);
  target.dispatchEvent(new CustomEvent('peer:disconnect', { detail: 'far 599' }));
  expect(versions.list().map(({ peer }) => peer)).not.toContain('far 599');
});
