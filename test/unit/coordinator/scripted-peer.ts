import type { AdapterLayout } from '../../../lora/adapter/layout.ts';
import { encodeUpdate } from '../../../lora/update/index.ts';
import { type SealContext, seal } from '../../../protocol/access/sealing.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { jobTopic } from '../../../protocol/job/topics.ts';
import { INLINE_UPDATE_BYTES } from '../../../protocol/limits.ts';
import type { Head, Heartbeat, Receipt, Update } from '../../../protocol/messages.ts';
import type { RpcMethod, RpcRequest, RpcResponse } from '../../../protocol/requests/rpc.ts';
import { type Signer, signerFromSeed, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { MemoryBlobs, MemoryDisk } from '../../utils/virtual/memory-blobs.ts';
import { addressOf, type VirtualHost } from '../../utils/virtual/virtual-network.ts';
import { COORDINATOR, type World } from './world.ts';

const never = new AbortController().signal;

/** A node that a test controls. */
export class ScriptedPeer {
  readonly signer: Signer;
  readonly disk = new MemoryDisk();
  /** The blobs that it serves. */
  readonly blobs: MemoryBlobs;
  readonly host: VirtualHost;
  /** Receipts pushed to it. */
  readonly notified: Receipt[] = [];
  /** The job of its messages and requests. A test with several jobs changes it. */
  job: string;
  readonly #world: World;
  #seals = 0;

  constructor(number: number, world: World) {
    this.#world = world;
    this.job = world.toy.job;
    this.signer = signerOf(number);
    const { clock, random } = world;
    const isAlive = (): boolean => true;
    this.blobs = new MemoryBlobs({ disk: this.disk, clock, random, isAlive });
    this.host = world.network.host({ signer: this.signer, blobs: this.blobs, isAlive });
    this.host.serveBlobs(() => true);
    this.host.handle('notify', async (_peer, { receipt }) => {
      this.notified.push(verifyMessage('receipt', receipt).message);
      return {};
    });
  }

  get id(): string {
    return this.signer.peerId;
  }

  async ask<M extends RpcMethod>(method: M, body: RpcRequest<M>): Promise<RpcResponse<M>> {
    const { host } = this;
    const world = this.#world;
    await world.settle(host.connect(addressOf(COORDINATOR.peerId), { signal: never }));
    return world.settle(host.request(COORDINATOR.peerId, method, body, { signal: never }));
  }

  /** Joins the job, and sends a heartbeat that says that the peer is ready. */
  async join(invite: string | null = null): Promise<void> {
    await this.ask('join', {
      job: this.job,
      invite,
      name: 'p',
      agent: 'test',
      engine: 'none',
      tokensPerSecond: 0,
      sentAt: this.#world.clock.now(),
    });
    await this.heartbeat('awaiting');
  }

  async heartbeat(state: Heartbeat['state'], overrides: Partial<Heartbeat> = {}): Promise<void> {
    this.#beat({ state, ...overrides });
    await this.#world.pass(5);
  }

  async head(): Promise<Head> {
    const { head } = await this.ask('head', { job: this.job });
    return verifyMessage('head', head!).message;
  }

  async receipt(update: string): Promise<Receipt | null> {
    const { receipt } = await this.ask('receipt', { job: this.job, update });
    return receipt && verifyMessage('receipt', receipt).message;
  }

  async submit(envelope: Uint8Array): Promise<Receipt> {
    const { receipt } = await this.ask('submit', { update: envelope });
    return verifyMessage('receipt', receipt).message;
  }

  /** Seals a signed update and publishes it. */
  async publish(envelope: Uint8Array): Promise<void> {
    await this.host.publish(jobTopic(this.job, 'updates'), this.sealed(envelope, 'update'));
    await this.#world.pass(50);
  }

  /** Returns a payload that lowers every value by about `delta`. A list has one delta for each tensor. */
  payload(delta: number | readonly number[], preset: Head['preset']): Uint8Array {
    const layout: AdapterLayout = this.#world.toy.layout;
    const values = layout.map(({ shape }, tensor) => {
      const by = typeof delta === 'number' ? delta : delta[tensor]!;
      return Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => by * (1 + (i % 5) / 10));
    });
    return encodeUpdate(layout, values, preset).bytes;
  }

  /** Returns an honest update for a head, except for the overrides. */
  update(head: Head, overrides: Partial<Update> = {}, payload = this.payload(0.05, head.preset)): Update {
    const own = head.assignments.find(({ peer }) => peer === this.id) ?? { start: 0, end: 4, steps: 1 };
    return {
      job: this.job,
      term: head.term,
      round: head.round,
      parent: head.checkpoint.digest,
      preset: head.preset,
      start: own.start,
      end: own.end,
      steps: own.steps,
      tokens: 8 * 4 * own.steps,
      seconds: 1,
      lossFirst: 2,
      lossLast: 1,
      payload: { digest: sha256(payload), size: payload.byteLength },
      inline: payload.byteLength <= INLINE_UPDATE_BYTES ? payload : null,
      ...overrides,
    };
  }

  /** Seals a signed message to the coordinator. */
  sealed(envelope: Uint8Array, kind: SealContext['kind']): Uint8Array {
    const recipient = this.#world.coordinator.find(this.job).context.keys.message().seal;
    const { job, id: author } = this;
    return seal(envelope, recipient, { kind, job, author }, new Uint8Array(32).fill(++this.#seals));
  }

  /** Signs an update. */
  seal(update: Update): Uint8Array {
    return signMessage('update', update, this.signer);
  }

  /** Takes part until `done` returns true: sends heartbeats, and one update for every round that it is assigned in. */
  async work(delta: (round: number) => number, done: () => boolean): Promise<void> {
    const { clock } = this.#world;
    const envelopes = new Map<number, Uint8Array>();
    const once = async (): Promise<void> => {
      const { host } = this;
      await host.connect(addressOf(COORDINATOR.peerId), { signal: never });
      const about = { invite: null, name: 'p', agent: 'test', engine: 'none', tokensPerSecond: 0 };
      const request = { ...about, sentAt: clock.now() };
      const answer = await host.request(
        COORDINATOR.peerId,
        'join',
        { job: this.job, ...request },
        { signal: never },
      );
      const head = verifyMessage('head', answer.head!).message;
      if (head.phase !== 'training' || !head.assignments.some(({ peer }) => peer === this.id)) return;
      const envelope =
        envelopes.get(head.round) ??
        this.seal(this.update(head, {}, this.payload(delta(head.round), head.preset)));
      envelopes.set(head.round, envelope);
      await host.request(COORDINATOR.peerId, 'submit', { update: envelope }, { signal: never });
    };
    const again = (): void => {
      if (done()) return;
      const message = { issuedAt: clock.now() };
      this.#beat(message);
      once().catch(() => {});
      clock.after(700, again);
    };
    again();
  }

  #beat(overrides: Partial<Heartbeat>): void {
    const message: Heartbeat = {
      job: this.job,
      name: 'p',
      agent: 'test',
      state: 'awaiting',
      round: 0,
      step: 0,
      steps: 0,
      tokensPerSecond: 0,
      engine: 'none',
      bytesSent: 0,
      bytesReceived: 0,
      issuedAt: this.#world.clock.now(),
      ...overrides,
    };
    const envelope = signMessage('heartbeat', message, this.signer);
    void this.host.publish(jobTopic(this.job, 'peers'), this.sealed(envelope, 'heartbeat'));
  }
}

/** Creates the hosts of many identities. */
export function strangers(world: World, count: number): VirtualHost[] {
  const { clock, random, network } = world;
  const isAlive = (): boolean => true;
  const blobs = new MemoryBlobs({ disk: new MemoryDisk(), clock, random, isAlive });
  return Array.from({ length: count }, (_, i) => {
    const seed = Buffer.alloc(32);
    seed.writeUInt32LE(i, 4);
    return network.host({ signer: signerFromSeed(seed), blobs, isAlive });
  });
}

/** Starts a world with an open round, and peers that have delivered nothing. */
export async function training(
  world: World,
  count: number,
  invite: string | null = null,
): Promise<{ peers: ScriptedPeer[]; head: Head }> {
  await world.start();
  const peers = Array.from({ length: count }, (_, i) => new ScriptedPeer(i + 1, world));
  for (const peer of peers) await peer.join(invite);
  await world.until(() => world.run.driver.state.phase === 'training', 'the first round');
  return { peers, head: await peers[0]!.head() };
}
