import type { Logger } from '../common/logger.ts';
import type { Clock } from '../common/time/clock.ts';
import type { ResumableBlobs } from '../storage/blob-store.ts';
import type { Identity } from './identity.ts';
import type { WatchdogOptions } from './libp2p/gossip-watchdog.ts';
import type { NetworkMeter } from './meter.ts';
import type { OtherBlobs } from './network.ts';

export interface HostOptions {
  /** Multiaddrs to listen on; port 0 takes any free port. */
  listen: readonly string[];
  /** Multiaddrs to announce in addition to the listen addresses, such as a router's, without /p2p. @default [] */
  announce?: readonly string[];
  /** Multiaddrs to stay connected to, with or without /p2p. */
  bootstrap: readonly string[];
  /** Peer ids of coordinators whose swarms are discovered in the local network. An empty list turns mDNS off. */
  mdns: readonly string[];
  /** The home of the daemon; persistent peers are saved in `<home>/peers.json`. */
  home: string;
  /** Name and version of the program, sent to peers. */
  agent: string;
  /**
   * Peers that receive what this host publishes on the channels `updates` and `peers`. No other peer learns that the
   * host publishes there. @default every peer that subscribes
   */
  confidants?: readonly string[];
  watchdog?: WatchdogOptions;
  /** Whether to ask other peers from time to time to dial this host ({@link SwarmNetwork.reachability}). @default false */
  checksReach?: boolean;
}

export interface HostDeps {
  identity: Identity;
  blobs: ResumableBlobs;
  /** Blobs of another store that the host also serves. @default none */
  other?: OtherBlobs;
  log: Logger;
  clock: Clock;
  /** Random number in [0, 1), for jitter. @default Math.random */
  random?: () => number;
  /** Measures rpc, gossip and blobs. @default none */
  meter?: NetworkMeter;
}
