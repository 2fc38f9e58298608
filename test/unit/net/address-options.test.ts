import { expect, it } from 'vitest';
import { withCode } from '../../utils/source/codes.ts';
import { LOOPBACK, startHost } from '../../utils/swarm/hosts.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;

it.each([
  [{ listen: ['foo'] }, 'listen.0', '"foo"'],
  [{ listen: [LOOPBACK, '/dns4/swarm.example/tcp/1'] }, 'listen.1', 'swarm.example'],
  [{ listen: ['/ip4/256.0.0.1/tcp/1'] }, 'listen.0', '256.0.0.1'],
  [{ listen: ['/ip4/127.0.0.1/tcp/65536'] }, 'listen.0', '65536'],
  [{ announce: ['foo'] }, 'announce.0', '"foo"'],
  [{ announce: ['/ip4/8.8.4.4/tcp/0'] }, 'announce.0', 'tcp/0'],
  [{ announce: [`/ip4/8.8.4.4/tcp/88/p2p/${PEER}`] }, 'announce.0', '/p2p'],
  [{ announce: ['/dns4/\u001b[31m/tcp/88'] }, 'announce.0', 'multiaddr'],
  [{ bootstrap: ['/ip4/8.8.4.4/udp/88/quic-v1'] }, 'bootstrap.0', 'quic-v1'],
  [{ bootstrap: ['/ip4/8.8.4.4/tcp/88/p2p/me'] }, 'bootstrap.0', 'p2p/me'],
  [{ bootstrap: 'foo' as unknown as string[] }, 'bootstrap', '"foo"'],
])('a wrong address is a usage error: %j', async (options, field, part) => {
  const starting = startHost(options);
  await expect(starting).rejects.toEqual(withCode('USAGE', { field }));
  await expect(starting).rejects.toThrow(part);
});

it('every TCP address is accepted, and a dnsaddr to stay connected to', async () => {
  const { network } = await startHost({
    announce: ['/ip4/8.8.4.4/tcp/88', '/ip6/2600::1/tcp/88', '/dns4/swarm.example/tcp/88'],
    bootstrap: [`/ip4/127.0.0.1/tcp/1/p2p/${PEER}`, `/dnsaddr/swarm.example/p2p/${PEER}`],
  });
  expect(network.addresses()).toContain(`/ip4/8.8.4.4/tcp/88/p2p/${network.signer.peerId}`);
});
