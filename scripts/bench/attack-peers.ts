/**
 * A process of attackers for the benchmark of attacks.
 *
 *   node scripts/bench/attack-peers.ts KIND ADDRESSES TARGET
 *
 * KIND is one of `attackKinds`, ADDRESSES the number of loopback addresses that the attackers use, and TARGET the JSON of
 * a Target. The process sends its parent the message `attacking` when all attackers are in place, and then attacks until
 * the parent disconnects. It answers each message of the parent with an Answer.
 */
import { connect } from 'node:net';
import { setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { noise } from '@libp2p/noise';
import { peerIdFromString } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { encodeCbor } from '../../protocol/cbor.ts';
import { BLOB_RANGE_BYTES } from '../../protocol/limits.ts';
import { BLOB_PROTOCOL, RPC_PROTOCOL, rpcMethods } from '../../protocol/requests/rpc.ts';
import { framed, heartbeats, updates } from './attack-messages.ts';
import type { Target } from './attack-target.ts';
import { cpuMilliseconds } from './cpu-time.ts';

export const attackKinds = [
  'calls',
  'sockets',
  'ranges',
  'gossip',
  'names',
  'keys',
  'bursts',
  'refusals',
] as const;
export type AttackKind = (typeof attackKinds)[number];

const GOSSIP_PROTOCOL = '/meshsub/1.2.0';
/** Pause before an attacker replaces a socket that it lost. */
const SOCKET_RETRY_MS = 1000;
/** Pause before an attacker replaces a stream that it lost. */
const STREAM_RETRY_MS = 50;
/**
 * Number of other keys that the attack on the rate limiter uses. The number is larger than the REMEMBERED_KEYS of the
 * limiter (4,096), so that the limiter has to forget keys.
 */
const OTHER_KEYS = 4200;
/** Number of identities that call at the same moment. After a pause, they call again. */
const BURST_IDENTITIES = 525;
const BURST_PAUSE_MS = 500;

/** A report of the attackers. */
export interface Answer {
  /** Number of requests that the target answered beyond a quota. */
  beyondQuota: number;
  /** Processor time that the attackers have used so far. */
  cpuSeconds: number;
}

let beyondQuota = 0;

class Attackers {
  readonly #target: Target;
  readonly #addresses: number;
  #created = 0;

  constructor(target: Target, addresses: number) {
    this.#target = target;
    this.#addresses = addresses;
  }

  async start(kind: AttackKind): Promise<void> {
    if (kind === 'calls') await this.#hold(17, 16, RPC_PROTOCOL);
    if (kind === 'sockets') for (let i = 0; i < 80; i++) this.#holdSocket(this.#from(i));
    if (kind === 'ranges') await this.#hold(12, 8, BLOB_PROTOCOL, this.#rangeRequest());
    if (kind === 'gossip') await this.#flood(heartbeats(this.#target.job, 5000));
    if (kind === 'names') await this.#rename(60);
    if (kind === 'keys') await this.#displace();
    if (kind === 'bursts') await this.#burst();
    if (kind === 'refusals') await this.#flood(updates(this.#target.job, 8000));
    await pause(1000);
  }

  #from(i: number): string {
    return `127.0.0.${2 + (i % this.#addresses)}`;
  }

  /** Connects a new identity. */
  async #connect(): Promise<Libp2p> {
    const localAddress = this.#from(this.#created++);
    const node = await createLibp2p({
      // The published type leaves out the options of node:net.
      transports: [tcp({ dialOpts: { localAddress } as never })],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionManager: { maxConnections: 4 },
    });
    for (;;) {
      try {
        await node.dial(multiaddr(this.#target.address));
        return node;
      } catch {
        await pause(STREAM_RETRY_MS);
      }
    }
  }

  #rangeRequest(): Uint8Array {
    return framed(encodeCbor({ digest: this.#target.blob.digest, offset: 0, length: BLOB_RANGE_BYTES }));
  }

  /** Opens a socket and sends nothing on it. Replaces the socket whenever it is closed. */
  #holdSocket(localAddress: string): void {
    const port = Number(/tcp\/(\d+)/.exec(this.#target.address)![1]);
    const socket = connect({ host: '127.0.0.1', port, localAddress });
    socket.on('error', () => {});
    socket.on('close', () => setTimeout(() => this.#holdSocket(localAddress), SOCKET_RETRY_MS));
  }

  /** Opens streams and reads nothing from them. Replaces each stream that is closed. */
  async #hold(identities: number, streams: number, protocol: string, bytes?: Uint8Array): Promise<void> {
    for (let i = 0; i < identities; i++) {
      const node = await this.#connect();
      for (let j = 0; j < streams; j++) void this.#holdStream(node, protocol, bytes);
    }
  }

  async #holdStream(node: Libp2p, protocol: string, bytes?: Uint8Array): Promise<void> {
    const peer = peerIdFromString(this.#target.peer);
    for (;;) {
      try {
        const stream = await node.dialProtocol(peer, protocol, { maxOutboundStreams: 1000 });
        stream.pause();
        if (bytes) stream.send(bytes);
        await new Promise((resolve) => stream.addEventListener('close', resolve, { once: true }));
      } catch {
        if (node.getConnections(peer).length === 0) {
          await node.dial(multiaddr(this.#target.address)).catch(() => {});
        }
      }
      await pause(STREAM_RETRY_MS);
    }
  }

  /** Sends the same frames repeatedly as gossip, on one connection per address, as fast as the target accepts them. */
  async #flood(frames: readonly Uint8Array[]): Promise<void> {
    const peer = peerIdFromString(this.#target.peer);
    for (let i = 0; i < this.#addresses; i++) {
      const node = await this.#connect();
      const send = async (): Promise<never> => {
        for (;;) {
          try {
            const stream = await node.dialProtocol(peer, GOSSIP_PROTOCOL);
            for (let n = 0; stream.writeStatus === 'writable'; n++) {
              if (stream.send(frames[n % frames.length]!)) await pause(0);
              else await drained(stream);
            }
          } catch {
            if (node.getConnections(peer).length === 0) {
              await node.dial(multiaddr(this.#target.address)).catch(() => {});
            }
          }
          await pause(STREAM_RETRY_MS);
        }
      };
      void send();
    }
  }

  /** Joins with many identities, which then change their names once a second. */
  async #rename(identities: number): Promise<void> {
    for (let i = 0; i < identities; i++) {
      const node = await this.#connect();
      let names = 0;
      const rename = (): void => {
        const about = { agent: 'a', engine: 'e', tokensPerSecond: 0, sentAt: Date.now() };
        const body = { job: this.#target.job, invite: null, name: `name ${names++}`, ...about };
        void this.#call(node, 'join', body);
      };
      setInterval(rename, 1000);
      rename();
    }
  }

  /**
   * Uses up the quota of one key, then makes calls with thousands of other keys. If the limiter then forgets the first
   * key, it lets calls with this key pass again. Counts these calls.
   */
  async #displace(): Promise<void> {
    const victim = await this.#connect();
    const { calls } = rpcMethods.head.quota;
    const body = { job: this.#target.job };
    const perMs = calls / rpcMethods.head.quota.perMs;
    // Calls that the quota has not earned back yet. Some calls fail for other reasons, so this number may fall to 0
    // although the key makes calls all the time.
    let [level, at] = [0, performance.now()];
    const use = async (): Promise<void> => {
      for (let i = 0; i < 2 * calls; i++) {
        if (!(await this.#call(victim, 'head', body))) continue;
        const now = performance.now();
        level = Math.max(0, level - (now - at) * perMs) + 1;
        at = now;
        // Two further calls may be answered because the times of calls and answers differ.
        beyondQuota = Math.max(beyondQuota, Math.ceil(level) - calls - 2);
      }
    };
    const methods = Object.keys(rpcMethods);
    const others: Libp2p[] = [];
    for (let i = 0; i < OTHER_KEYS / methods.length; i++) others.push(await this.#connect());
    const round = async (): Promise<never> => {
      for (;;) {
        await use();
        // Call from one node after the other, because this attack tests a large number of keys. It does not test calls
        // at the same moment.
        for (const node of others) await Promise.all(methods.map((method) => this.#call(node, method, {})));
      }
    };
    void round();
  }

  /** Repeatedly calls every method with many identities at the same moment. */
  async #burst(): Promise<void> {
    const nodes: Libp2p[] = [];
    for (let i = 0; i < BURST_IDENTITIES; i++) nodes.push(await this.#connect());
    const round = async (): Promise<never> => {
      for (;;) {
        await Promise.all(
          nodes.flatMap((node) => Object.keys(rpcMethods).map((method) => this.#call(node, method, {}))),
        );
        await pause(BURST_PAUSE_MS);
      }
    };
    void round();
  }

  /** Makes a call. Returns whether it was answered without an error. */
  async #call(node: Libp2p, method: string, body: object): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(10_000);
      const stream = await node.dialProtocol(peerIdFromString(this.#target.peer), RPC_PROTOCOL, {
        signal,
        maxOutboundStreams: 1000,
      });
      stream.send(Buffer.concat([framed(Buffer.from(method)), framed(encodeCbor(body))]));
      let answer = Buffer.alloc(0);
      for await (const chunk of stream) answer = Buffer.concat([answer, chunk.subarray()]);
      // The first key of the answer is "ok" or "error".
      return answer.subarray(0, 16).includes('ok');
    } catch {
      return false;
    }
  }
}

function drained(stream: EventTarget): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000);
    stream.addEventListener(
      'drain',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

if (import.meta.main) {
  // Real attackers have their own machines. With a normal priority, these attackers would take processor time from the
  // coordinator and from the honest peers, which share this machine with them.
  setPriority(19);
  const [kind, addresses, target] = process.argv.slice(2);
  process.on('disconnect', () => process.exit());
  process.on('message', () =>
    process.send!({ beyondQuota, cpuSeconds: cpuMilliseconds() / 1000 } satisfies Answer),
  );
  await new Attackers(JSON.parse(target!) as Target, Number(addresses)).start(kind as AttackKind);
  process.send!('attacking');
}
