import type { Libp2p, Listener } from '@libp2p/interface';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { expect, it } from 'vitest';
import { startHost, startRaw } from '../../../utils/swarm/hosts.ts';

/** The components of a libp2p node, which its published type leaves out. */
interface Internals {
  readonly components: {
    readonly events: EventTarget;
    readonly transportManager: { getAddrs(): Multiaddr[] };
  };
}

/** Makes a node believe that it listens on an address that this machine does not have. */
function pretendToListen(node: Libp2p, address: string): void {
  const { components } = node as unknown as Internals;
  const addresses = [multiaddr(address)];
  components.transportManager.getAddrs = () => addresses;
  const detail = { getAddrs: () => addresses } as unknown as Listener;
  components.events.dispatchEvent(new CustomEvent('transport:listening', { detail }));
}

it('announces a public address of its own interfaces, which libp2p by itself would not announce', async () => {
  const node = await startRaw();
  pretendToListen(node, '/ip4/8.8.4.4/tcp/4040');
  expect(node.getMultiaddrs().map(String)).toEqual([`/ip4/8.8.4.4/tcp/4040/p2p/${node.peerId.toString()}`]);
});

it('announces the addresses that it is given, besides its own', async () => {
  const announce = ['/ip4/8.8.4.4/tcp/4040', '/dns4/swarm.example/tcp/4040'];
  const { network, peer } = await startHost({ announce });
  const addresses = network.addresses();
  for (const address of announce) expect(addresses).toContain(`${address}/p2p/${peer}`);
  expect(addresses.some((address) => address.startsWith('/ip4/127.0.0.1/'))).toBe(true);
});
