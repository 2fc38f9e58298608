import type { Libp2p } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromString } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { onTestFinished } from 'vitest';
import type { Logger } from '../../../common/logger.ts';
import type { Clock } from '../../../common/time/clock.ts';
import { systemClock } from '../../../common/time/system-clock.ts';
import { Gossip } from '../../../net/gossip.ts';
import { createHost } from '../../../net/host.ts';
import type { HostOptions } from '../../../net/host-options.ts';
import { type Identity, loadIdentity } from '../../../net/identity.ts';
import { createNode } from '../../../net/libp2p/create.ts';
import { Traffic } from '../../../net/libp2p/traffic.ts';
import { type NetworkMeter, noMeter } from '../../../net/meter.ts';
import type { OtherBlobs, SwarmNetwork } from '../../../net/network.ts';
import { Shares } from '../../../net/shares.ts';
import { FileBlobStore } from '../../../storage/blob-store.ts';
import { eventually } from '../eventually.ts';
import { temporaryFolder } from '../folder.ts';

export const LOOPBACK = '/ip4/127.0.0.1/tcp/0';

export interface TestHost {
  network: SwarmNetwork;
  blobs: FileBlobStore;
  home: string;
  peer: string;
  /** Logged lines. */
  logged: { action: string; fields: object }[];
}

/** A logger that records lines instead of printing them. */
export function recordingLog(logged: TestHost['logged']): Logger {
  const record = (fields: object, action: string): void => {
    logged.push({ action, fields });
  };
  const log: Logger = { debug: record, info: record, warn: record, error: record, child: () => log };
  return log;
}

/** Starts a host on a free loopback port. It stops when the test ends. */
export async function startHost(
  options: Partial<HostOptions> & {
    clock?: Clock;
    identity?: Identity;
    meter?: NetworkMeter;
    other?: OtherBlobs;
  } = {},
): Promise<TestHost> {
  const { clock = systemClock, identity, meter, other, home = await temporaryFolder(), ...rest } = options;
  const logged: TestHost['logged'] = [];
  const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
  const network = await createHost(
    { listen: [LOOPBACK], bootstrap: [], mdns: [], agent: 'lora-swarm-test', home, ...rest },
    {
      identity: identity ?? (await loadIdentity(home)),
      blobs,
      clock,
      log: recordingLog(logged),
      ...(meter && { meter }),
      ...(other && { other }),
    },
  );
  network.serveBlobs(() => true);
  onTestFinished(() => network.stop());
  return { network, blobs, home, peer: network.signer.peerId, logged };
}

/** Starts a libp2p node with our transports and gossip settings but without our protocols, for a peer that misbehaves. */
export async function startRaw(): Promise<Libp2p<{ pubsub: object }>> {
  const { privateKey } = await loadIdentity(await temporaryFolder());
  const options = { listen: [LOOPBACK], mdns: [], agent: 'hostile' };
  const deps = { traffic: new Traffic(), clock: systemClock, meter: noMeter };
  const shares = new Shares({ meter: noMeter });
  const node = await createNode(options, { privateKey, shares, ...deps });
  await node.start();
  onTestFinished(() => node.stop());
  return node;
}

/** Starts a libp2p node without our limits and protocols that dials from an address. */
export async function startAttacker(localAddress: string): Promise<Libp2p> {
  const node = await createLibp2p({
    transports: [tcp({ dialOpts: { localAddress } as never })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { reconnectRetries: 0 },
  });
  onTestFinished(() => node.stop());
  return node;
}

/** The gossip of a raw node. */
export function rawGossip(node: Libp2p<{ pubsub: object }>): Gossip {
  return new Gossip({
    pubsub: node.services.pubsub,
    clock: systemClock,
    log: recordingLog([]),
    meter: noMeter,
    networkOf: (peer) => peer,
    memory: new Shares({ meter: noMeter }).gossip,
  });
}

export const soon = (): AbortSignal => AbortSignal.timeout(20_000);

/** Connects one host to another; resolves when both list the connection. */
export async function join(host: TestHost, to: TestHost, timeout = 20_000): Promise<void> {
  await host.network.connect(to.network.addresses()[0]!, { signal: AbortSignal.timeout(timeout) });
  await eventually(() => to.network.peers().some(({ peer }) => peer === host.peer), { timeout });
}

/** Opens a stream from a raw node to a host. */
export async function rawStream(
  node: Libp2p,
  host: TestHost,
  protocol: string,
): Promise<Awaited<ReturnType<Libp2p['dialProtocol']>>> {
  if (node.getConnections(peerIdFromString(host.peer)).length === 0) {
    await node.dial(multiaddr(host.network.addresses()[0]!), { signal: soon() });
  }
  return node.dialProtocol(peerIdFromString(host.peer), protocol, { signal: soon() });
}
