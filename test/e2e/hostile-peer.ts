/** A peer that joins a job like any node, and then sends invalid updates. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { multiaddr } from '@multiformats/multiaddr';
import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import { type AdapterLayout, adapterLayout } from '../../lora/adapter/layout.ts';
import { loraConfig } from '../../lora/adapter/lora-config.ts';
import { openBase } from '../../lora/models/base/base-model.ts';
import { encodeUpdate } from '../../lora/update/index.ts';
import { createHost } from '../../net/host.ts';
import { loadIdentity } from '../../net/identity.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import { decodeInvite } from '../../protocol/access/invite.ts';
import { decryptHead } from '../../protocol/access/job-key.ts';
import type { JobKeysMessage } from '../../protocol/access/job-keys-message.ts';
import { seal } from '../../protocol/access/sealing.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import type { Head, Receipt, Update } from '../../protocol/messages.ts';
import { type Signer, signMessage, verifyMessage } from '../../protocol/signing.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { eventually } from '../utils/eventually.ts';
import { gossipFrames, gossipMessage, strangerSigner } from '../utils/swarm/gossip-messages.ts';
import { startRaw } from '../utils/swarm/hosts.ts';
import { PATIENCE_MS } from './swarm.ts';

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

export interface HostileOptions {
  invite: string;
  folder: string;
  modelDir: string;
  lora: { rank: number; alpha: number };
  signal: AbortSignal;
}

export class HostilePeer {
  readonly network: SwarmNetwork;
  readonly job: string;
  /** Authors of the updates and heartbeats that this peer received by gossip. Only a coordinator should receive any. */
  readonly overheard: string[] = [];
  readonly coordinator: string;
  readonly #layout: AdapterLayout;
  readonly #signal: AbortSignal;
  #newest: Head | null = null;
  #address = '';
  #keys: JobKeysMessage | null = null;

  private constructor(
    network: SwarmNetwork,
    coordinator: string,
    job: string,
    layout: AdapterLayout,
    signal: AbortSignal,
  ) {
    this.network = network;
    this.coordinator = coordinator;
    this.job = job;
    this.#layout = layout;
    this.#signal = signal;
  }

  static async join({ invite, folder, modelDir, lora, signal }: HostileOptions): Promise<HostilePeer> {
    const { addresses, job } = decodeInvite(invite);
    const home = join(folder, 'hostile');
    const identity = await loadIdentity(home);
    const blobs = await FileBlobStore.open({ home }, { clock: systemClock });
    const network = await createHost(
      { listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: [], home, agent: 'hostile/1' },
      { identity, blobs, log: quiet, clock: systemClock },
    );
    const coordinator = await network.connect(addresses[0]!, { signal });
    const layout = adapterLayout(await openBase(modelDir), loraConfig(lora));
    const peer = new HostilePeer(network, coordinator, job!, layout, signal);
    peer.#address = addresses[0]!;
    await peer.#enter();
    return peer;
  }

  get signer(): Signer {
    return this.network.signer;
  }

  async stop(): Promise<void> {
    await this.network.stop();
  }

  async #enter(): Promise<void> {
    const { network, job } = this;
    network.subscribe(jobTopic(job, 'heads'), ({ data }) => {
      if (this.#keys) this.#heard(verifyMessage('head', decryptHead(data, job, this.#keys)).message);
      return 'accept';
    });
    for (const channel of ['updates', 'peers'] as const) {
      network.subscribe(jobTopic(job, channel), ({ from }) => {
        this.overheard.push(from);
        return 'accept';
      });
    }
    const head = await this.#join();
    if (head) this.#heard(verifyMessage('head', head).message);
  }

  async #join(): Promise<Uint8Array | null> {
    const { network, job, coordinator } = this;
    const about = { name: 'wolf', agent: 'hostile/1', engine: 'none', tokensPerSecond: 0 };
    const body = { job, invite: null, ...about, sentAt: Date.now() };
    const { head, keys } = await network.request(coordinator, 'join', body, { signal: this.#signal });
    this.#keys = keys;
    return head;
  }

  /** Connects and joins again. Returns the code of the refusal; null if the job admits this peer. */
  async refusalToJoin(): Promise<string | null> {
    await this.network.connect(this.#address, { signal: this.#signal });
    return this.#join().then(
      () => null,
      (error: unknown) => (isSwarmError(error, 'RPC_REFUSED') ? String(error.values.code) : 'failed'),
    );
  }

  /** Publishes a heartbeat, as nodes do. */
  async beat(): Promise<void> {
    const message = {
      job: this.job,
      name: 'wolf',
      agent: 'hostile/1',
      state: 'awaiting' as const,
      round: this.#newest?.round ?? 0,
      step: 0,
      steps: 0,
      tokensPerSecond: 0,
      engine: 'none',
      bytesSent: 0,
      bytesReceived: 0,
      issuedAt: Date.now(),
    };
    const context = { kind: 'heartbeat', job: this.job, author: this.signer.peerId } as const;
    const signed = signMessage('heartbeat', message, this.signer);
    const sealed = seal(signed, this.#keys!.seal, context, randomBytes(32));
    await this.network.publish(jobTopic(this.job, 'peers'), sealed);
  }

  #heard(head: Head): void {
    if (this.#newest === null || this.#newest.sequence < head.sequence) this.#newest = head;
  }

  /**
   * Waits for the next head after round `after` that assigns work to this peer, or that ends the job. Uses requests, because
   * gossip may no longer reach this peer.
   */
  assignedHead(after: number): Promise<Head> {
    const check = async () => {
      const { job } = this;
      const signal = this.#signal;
      const { head } = await this.network.request(this.coordinator, 'head', { job }, { signal });
      if (head) this.#heard(verifyMessage('head', head).message);
      const newest = this.#newest;
      if (newest?.phase === 'finished') return newest;
      const mine = newest?.assignments.some(({ peer }) => peer === this.signer.peerId);
      return newest && newest.round > after && mine ? newest : null;
    };
    const what = `work for the hostile peer after round ${after}`;
    return eventually(check, { what, timeout: PATIENCE_MS, interval: 300 });
  }

  /** Makes an update that passes intake: noise of the given magnitude, for the work that the head assigns. */
  update(head: Head, magnitude: number): Update {
    const own = head.assignments.find(({ peer }) => peer === this.signer.peerId)!;
    const noise = this.#layout.map(({ shape }, t) =>
      Float32Array.from(
        { length: shape[0] * shape[1] },
        (_, i) => magnitude * Math.sin(12.9898 * (i + 1) + t),
      ),
    );
    const { bytes } = encodeUpdate(this.#layout, noise, head.preset);
    return {
      job: this.job,
      term: head.term,
      round: head.round,
      parent: head.checkpoint.digest,
      preset: head.preset,
      start: own.start,
      end: own.end,
      steps: own.steps,
      tokens: own.steps,
      seconds: 1,
      lossFirst: 4.5,
      lossLast: 4,
      ...payloadFields(bytes),
    };
  }

  /** Sends bytes to the coordinator as an update, and returns the receipt. */
  async submit(bytes: Uint8Array): Promise<Receipt> {
    const { receipt } = await this.network.request(
      this.coordinator,
      'submit',
      { update: bytes },
      { signal: this.#signal },
    );
    return verifyMessage('receipt', receipt).message;
  }

  signed(update: Update): Uint8Array {
    return signMessage('update', update, this.signer);
  }
}

/**
 * Sends correctly signed heartbeats of unknown keys to a coordinator, over one connection of its own. Returns when the
 * coordinator has taken them off the connection.
 */
export async function flood(invite: string, count: number): Promise<void> {
  const { addresses, job } = decodeInvite(invite);
  const node = await startRaw();
  const { remotePeer } = await node.dial(multiaddr(addresses[0]!));
  const stream = await node.dialProtocol(remotePeer, '/meshsub/1.2.0');
  const topic = jobTopic(job!, 'peers');
  const messages = Array.from({ length: count }, (_, i) =>
    gossipMessage(topic, Buffer.from(`heartbeat ${i}`), strangerSigner(i)),
  );
  for (const frame of gossipFrames(messages)) {
    if (!stream.send(frame)) {
      await new Promise((resolve) => stream.addEventListener('drain', resolve, { once: true }));
    }
  }
}

export function payloadFields(bytes: Uint8Array): Pick<Update, 'payload' | 'inline'> {
  return { payload: { digest: sha256(bytes), size: bytes.byteLength }, inline: bytes };
}

/** Signs any bytes as the body of an update. */
export function signRaw(body: Uint8Array, signer: Signer): Uint8Array {
  const signature = signer.sign(Buffer.concat([Buffer.from('lora-swarm/1/update\0'), body]));
  return encodeCbor({ kind: 'update', author: signer.peerId, body, signature: new Uint8Array(signature) });
}

/** Encodes an update with one float replaced by NaN, which our strict CBOR encoder cannot write. */
export function withNaN(update: Update): Uint8Array {
  const marker = 1234.5678;
  const body = Buffer.from(encodeCbor({ ...update, lossLast: marker }));
  const float = Buffer.alloc(8);
  float.writeDoubleBE(marker);
  body.writeDoubleBE(Number.NaN, body.indexOf(float));
  return body;
}
