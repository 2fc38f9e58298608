/** Honest peers for the benchmark of attacks: members that send heartbeats, nodes that join, and fetches of a blob. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '../../common/logger.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { createHost } from '../../net/host.ts';
import { loadIdentity } from '../../net/identity.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { seal } from '../../protocol/access/sealing.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import type { Heartbeat } from '../../protocol/messages.ts';
import { signMessage } from '../../protocol/signing.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import type { Target } from './attack-target.ts';

/** Number of members that are connected all the time. */
const MEMBERS = 4;
const HEARTBEAT_MS = 250;
/** Pause between two joins of new nodes, and between two fetches, in milliseconds. */
const JOIN_PAUSE_MS = 200;
/** Time limit of a join or request. A join or request that fails or takes longer is recorded with this time. */
const JOIN_TIMEOUT_MS = 10_000;
const FETCH_TIMEOUT_MS = 20_000;

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

/** Results of the honest peers over a few seconds. */
export interface Service {
  joins: number;
  joined: number;
  /** Seconds that each join, and each request of a member, took. For a failed call, the list has the time limit. */
  times: number[];
  /** Number of heartbeats that members sent. */
  sent: number;
  fetches: number;
  /** Speed of each fetch that succeeded, in MiB per second. */
  speeds: number[];
  /** One text for each failure: the name of the call that failed, and the message of the error. */
  failures: string[];
}

export class HonestPeers {
  readonly #folder: string;
  readonly #target: Target;
  readonly #members: SwarmNetwork[] = [];
  /** Public key to which heartbeats are sealed. */
  #recipient: Uint8Array = new Uint8Array();
  #homes = 0;

  constructor(folder: string, target: Target) {
    this.#folder = folder;
    this.#target = target;
  }

  /** Connects the members. Returns the signed manifest of the job. */
  async start(): Promise<Uint8Array> {
    let manifest = new Uint8Array();
    for (let i = 0; i < MEMBERS; i++) {
      const { host } = await this.#open();
      this.#members.push(host);
      manifest = await this.#join(host, AbortSignal.timeout(JOIN_TIMEOUT_MS));
    }
    // A heartbeat reaches 0 peers until gossip has learnt who subscribes to the topic.
    while ((await Promise.all(this.#members.map((host) => this.#beat(host)))).includes(0)) await pause(200);
    return manifest;
  }

  /** Lets the honest peers work for a number of seconds, and then waits until their last join and fetch have ended. */
  async serve(seconds: number): Promise<Service> {
    const service: Service = {
      joins: 0,
      joined: 0,
      times: [],
      sent: 0,
      fetches: 0,
      speeds: [],
      failures: [],
    };
    const until = performance.now() + seconds * 1000;
    const going = (): boolean => performance.now() < until;
    await Promise.all([
      ...this.#members.map((host) => this.#beatWhile(host, going, service)),
      this.#joinWhile(going, service),
      this.#fetchWhile(going, service),
    ]);
    return service;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map((host) => host.stop()));
  }

  async #open(): Promise<{ host: SwarmNetwork }> {
    const home = join(this.#folder, `honest-${this.#homes++}`);
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const options = { listen: [], bootstrap: [], mdns: [], home, agent: 'lora-swarm-bench' };
    return { host: await createHost(options, { identity, blobs, log: silent, clock: systemClock }) };
  }

  async #join(host: SwarmNetwork, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { address, peer, job } = this.#target;
    await host.connect(address, { signal });
    const about = { name: 'honest', agent: 'a', engine: 'e', tokensPerSecond: 0, sentAt: Date.now() };
    const { manifest, keys } = await host.request(peer, 'join', { job, invite: null, ...about }, { signal });
    this.#recipient = keys.seal;
    return new Uint8Array(manifest);
  }

  async #beat(host: SwarmNetwork): Promise<number> {
    const { job } = this.#target;
    const idle = { round: 0, step: 0, steps: 0, tokensPerSecond: 0, bytesSent: 0, bytesReceived: 0 };
    const about = {
      name: 'honest',
      agent: 'a',
      engine: 'e',
      state: 'syncing',
      issuedAt: Date.now(),
    } as const;
    const bytes = signMessage('heartbeat', { job, ...about, ...idle } satisfies Heartbeat, host.signer);
    const context = { kind: 'heartbeat', job, author: host.signer.peerId } as const;
    return host.publish(jobTopic(job, 'peers'), seal(bytes, this.#recipient, context, randomBytes(32)));
  }

  async #beatWhile(host: SwarmNetwork, going: () => boolean, service: Service): Promise<void> {
    const { peer, job } = this.#target;
    while (going()) {
      service.sent++;
      await this.#beat(host);
      const begin = performance.now();
      const signal = AbortSignal.timeout(JOIN_TIMEOUT_MS);
      await host.request(peer, 'head', { job }, { signal }).then(
        () => service.times.push((performance.now() - begin) / 1000),
        (error: unknown) => {
          service.times.push(JOIN_TIMEOUT_MS / 1000);
          service.failures.push(`request: ${String(error)}`);
        },
      );
      await pause(Math.max(0, HEARTBEAT_MS - (performance.now() - begin)));
    }
  }

  async #joinWhile(going: () => boolean, service: Service): Promise<void> {
    while (going()) {
      const { host } = await this.#open();
      const begin = performance.now();
      service.joins++;
      try {
        await this.#join(host, AbortSignal.timeout(JOIN_TIMEOUT_MS));
        service.joined++;
        service.times.push((performance.now() - begin) / 1000);
      } catch (error) {
        service.times.push(JOIN_TIMEOUT_MS / 1000);
        service.failures.push(`join: ${String(error)}`);
      }
      await host.stop();
      await pause(JOIN_PAUSE_MS);
    }
  }

  async #fetchWhile(going: () => boolean, service: Service): Promise<void> {
    const { address, peer, blob } = this.#target;
    while (going()) {
      const { host } = await this.#open();
      service.fetches++;
      try {
        const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
        await host.connect(address, { signal });
        const begin = performance.now();
        await host.fetchBlob(blob, { holders: [peer], signal });
        service.speeds.push(blob.size / 2 ** 20 / ((performance.now() - begin) / 1000));
      } catch (error) {
        // A failed fetch counts in `fetches` and adds nothing to `speeds`.
        service.failures.push(`fetch: ${String(error)}`);
      }
      await host.stop();
      await pause(JOIN_PAUSE_MS);
    }
  }
}
