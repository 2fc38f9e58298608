import { jobTopic } from '../../protocol/job/topics.ts';
import type { Heartbeat, Update } from '../../protocol/messages.ts';
import { signerFromSeed, signMessage } from '../../protocol/signing.ts';
import { MemoryBlobs, MemoryDisk } from '../utils/virtual/memory-blobs.ts';
import { SeededRandom } from '../utils/virtual/seeded-random.ts';
import { addressOf, type VirtualHost } from '../utils/virtual/virtual-network.ts';
import type { SimulatedSwarm } from './simulated-swarm.ts';

const STRANGERS = 20;
/** Number of strangers that join as members, and change their names at each turn. */
const JOINERS = 10;
const TURN_MS = 500;
/** Number of messages, signed by unknown keys, that each stranger hands over in a turn. */
const MESSAGES = 10;

/** Strangers that flood the coordinator of a simulated swarm, all from one address. */
export class Crowd {
  readonly #swarm: SimulatedSwarm;
  readonly #hosts: VirtualHost[];
  readonly #heartbeats: { from: string; bytes: Uint8Array }[];
  readonly #updates: { from: string; bytes: Uint8Array }[];
  #turn = 0;

  constructor(swarm: SimulatedSwarm) {
    this.#swarm = swarm;
    const { network, clock, toy } = swarm;
    const random = new SeededRandom(1);
    const isAlive = (): boolean => true;
    const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive });
    const signers = Array.from({ length: STRANGERS + MESSAGES }, (_, i) => {
      const seed = Buffer.alloc(32, 0x77);
      seed.writeUInt32LE(i);
      return signerFromSeed(seed);
    });
    this.#hosts = signers.slice(0, STRANGERS).map((signer) => {
      const host = network.host({ signer, blobs, isAlive });
      host.address = 'crowd';
      return host;
    });
    const { job } = toy;
    const unknown = signers.slice(STRANGERS);
    const idle = { round: 0, step: 0, steps: 0, tokensPerSecond: 0, bytesSent: 0, bytesReceived: 0 };
    const about = { name: 's', agent: 'a', engine: 'e', state: 'awaiting', issuedAt: clock.now() } as const;
    const place = { term: 1, round: 1, parent: 'ab'.repeat(32), preset: 'dense', start: 0, end: 1 } as const;
    const figures = { steps: 1, tokens: 1, seconds: 1, lossFirst: 1, lossLast: 1 };
    const payload = { payload: { digest: 'cd'.repeat(32), size: 100 }, inline: null };
    this.#heartbeats = unknown.map((signer) => ({
      from: signer.peerId,
      bytes: signMessage('heartbeat', { job, ...about, ...idle } satisfies Heartbeat, signer),
    }));
    this.#updates = unknown.map((signer) => ({
      from: signer.peerId,
      bytes: signMessage('update', { job, ...place, ...figures, ...payload } satisfies Update, signer),
    }));
    // The witness checks only the messages of honest peers.
    const strangers = new Set(this.#hosts.map(({ peer }) => peer));
    const hear = network.onMessage;
    network.onMessage = (message) => {
      if (!strangers.has(message.from)) hear(message);
    };
  }

  /** Number of messages that were handed over. */
  get sent(): number {
    return this.#turn * STRANGERS * 2 * MESSAGES;
  }

  start(): void {
    this.#turn++;
    for (const [i, host] of this.#hosts.entries()) {
      this.#flood(host);
      if (i < JOINERS) this.#join(host).catch(() => {});
    }
    this.#swarm.clock.after(TURN_MS, () => this.start());
  }

  #flood(host: VirtualHost): void {
    const { job } = this.#swarm.toy;
    for (const { from, bytes } of this.#heartbeats) void host.relay(jobTopic(job, 'peers'), bytes, from);
    for (const { from, bytes } of this.#updates) void host.relay(jobTopic(job, 'updates'), bytes, from);
  }

  async #join(host: VirtualHost): Promise<void> {
    const { toy, clock, coordinator } = this.#swarm;
    const { signal } = new AbortController();
    await host.connect(addressOf(coordinator.peer), { signal });
    const about = { agent: 'a', engine: 'e', tokensPerSecond: 0, sentAt: clock.now() };
    const body = { job: toy.job, invite: null, name: `name ${this.#turn}`, ...about };
    await host.request(coordinator.peer, 'join', body, { signal });
  }
}
