import { SwarmError } from '../../../common/errors.ts';
import type { OwnStanding } from '../../../node/contact/port.ts';
import { sha256 } from '../../../protocol/cbor.ts';
import { jobTopic } from '../../../protocol/job/topics.ts';
import type { Head, Heartbeat, SettingsRecord, Update } from '../../../protocol/messages.ts';
import type { ReceiptCode } from '../../../protocol/receipts.ts';
import type { Role } from '../../../protocol/requests/member-status.ts';
import { type Signer, signMessage, verifyMessage } from '../../../protocol/signing.ts';
import { encryptedHead, testKeys, testSealing } from '../../utils/swarm/job-keys.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { MemoryBlobs, MemoryDisk } from '../../utils/virtual/memory-blobs.ts';
import type { ToyJob } from '../../utils/virtual/toy-job.ts';
import type { VirtualHost } from '../../utils/virtual/virtual-network.ts';
import type { VirtualEnvironment } from '../../utils/virtual/virtual-node.ts';

export const COORDINATOR = signerOf(200);

/** A coordinator that a test scripts. Records what it receives. */
export class ScriptedCoordinator {
  readonly disk = new MemoryDisk();
  readonly host: VirtualHost;
  readonly updates: Update[] = [];
  readonly left: string[] = [];
  readonly states: string[] = [];
  /** Reasons in the heartbeats of nodes that take no work. */
  readonly holds: string[] = [];
  /** Rounds in the heartbeats of awaiting nodes. */
  readonly idle: number[] = [];
  /** Position of the newest head that the newest heartbeat names. */
  known: Heartbeat['known'];
  joins = 0;
  /** The receipt code of every update. null: no receipt, as if the update were lost. */
  code: ReceiptCode | null = 'accepted';
  admits = true;
  admission: 'open' | 'invite' = 'open';
  standing: OwnStanding = { kind: 'good', untilRound: null, strikes: 0 };
  role: Role = 'contributor';
  delivered: number | null = null;
  /** The code with which it refuses nodes that it does not admit. */
  refusal = 'NOT_ADMITTED';
  /** Digest of the job that it lists. @default its own job */
  listed: string;
  /** Speeds in the requests to join. */
  readonly speeds: number[] = [];
  /** Signed changes of the settings, by digest. */
  readonly settings = new Map<string, Uint8Array>();
  /** Called for each request for a head. */
  onHead: () => void = () => {};
  /** Id of the key of heads. */
  keyId = 1;
  head: Head | null = null;
  readonly #toy: ToyJob;
  readonly #signer: Signer;
  readonly #receipts = new Map<string, ReceiptCode>();
  #sequence = 0;

  constructor(
    { toy, signer = COORDINATOR }: { toy: ToyJob; signer?: Signer },
    environment: VirtualEnvironment,
  ) {
    this.#toy = toy;
    this.#signer = signer;
    const { clock, network, random } = environment;
    for (const bytes of toy.blobs) this.disk.files.set(sha256(bytes), bytes);
    const isAlive = (): boolean => true;
    const blobs = new MemoryBlobs({ disk: this.disk, clock, random, isAlive });
    this.host = network.host({ signer, blobs, isAlive });
    this.host.serveBlobs(() => true);
    const { job } = toy;
    this.listed = job;
    this.host.handle('jobs', async () => ({
      jobs: [{ job: this.listed, name: 'toy', phase: this.head?.phase ?? 'waiting' }],
      others: false,
    }));
    this.host.handle('join', async (_peer, { tokensPerSecond }) => {
      this.joins++;
      this.speeds.push(tokensPerSecond);
      if (!this.admits) throw new SwarmError(this.refusal, 'not you', {});
      return {
        manifest: bytes(toy.envelope),
        head: this.#signedHead(),
        admission: this.admission,
        role: this.role,
        standing: this.standing,
        delivered: this.delivered,
        keys: testKeys(this.keyId),
      };
    });
    this.host.handle('head', async () => {
      this.onHead();
      return { head: this.#signedHead(), keys: testKeys(this.keyId) };
    });
    this.host.handle('settings', async (_peer, { record }) => {
      const envelope = this.settings.get(record);
      return { settings: envelope === undefined ? null : bytes(envelope) };
    });
    this.host.handle('leave', async (peer) => {
      this.left.push(peer);
      return {};
    });
    this.host.handle('receipt', async (peer, { update }) => {
      const code = this.#receipts.get(update);
      return { receipt: code ? this.#receipt(peer, update, code) : null };
    });
    this.host.handle('submit', async (peer, { update }) => {
      const { message } = this.#receive(update);
      if (!this.code) throw new SwarmError('BUSY', 'not now', {});
      return { receipt: this.#receipt(peer, message.payload.digest, this.code) };
    });
    this.host.subscribe(jobTopic(job, 'updates'), ({ from, data }) => {
      const opened = testSealing.open(data, { kind: 'update', job, author: from });
      const { author, message } = this.#receive(opened);
      if (this.code) {
        const receipt = this.#receipt(author, message.payload.digest, this.code);
        const { signal } = new AbortController();
        this.host.request(author, 'notify', { receipt }, { signal }).catch(() => {});
      }
      return 'accept';
    });
    this.host.subscribe(jobTopic(job, 'peers'), ({ from, data }) => {
      const opened = testSealing.open(data, { kind: 'heartbeat', job, author: from });
      const { state, round, hold, known } = verifyMessage('heartbeat', opened).message;
      if (hold) this.holds.push(hold.reason);
      this.known = known;
      if (this.states.at(-1) !== state) this.states.push(state);
      if (state === 'awaiting') this.idle.push(round);
      return 'accept';
    });
  }

  /** Announces a round that divides all rows among `peers`. */
  async open(round: number, peers: readonly string[], changes: Partial<Head> = {}): Promise<void> {
    const { job, manifest } = this.#toy;
    const rows = Math.floor(manifest.data.rows / Math.max(1, peers.length));
    this.head = {
      job,
      term: 1,
      sequence: ++this.#sequence,
      phase: 'training',
      round,
      checkpoint: this.head?.checkpoint ?? {
        digest: sha256(Buffer.from('checkpoint 0')),
        round: 0,
        ordinal: 0,
        adapter: manifest.adapter.initial,
        delta: null,
        heldOutLoss: null,
      },
      preset: 'dense',
      assignments: peers.map((peer, i) => ({ peer, start: i * rows, end: (i + 1) * rows, steps: 4 })),
      deadlineMs: 10_000,
      included: [],
      reason: '',
      issuedAt: 0,
      ...changes,
    };
    const signed = signMessage('head', this.head, this.#signer);
    await this.host.publish(jobTopic(job, 'heads'), encryptedHead(signed, job, this.keyId));
  }

  /** Signs a change of the settings. Returns its digest. */
  changeSettings(change: Omit<SettingsRecord, 'job' | 'reason' | 'issuedAt'>, reason = ''): string {
    const record = { ...change, job: this.#toy.job, reason, issuedAt: 0 };
    const envelope = signMessage('settings', record, this.#signer);
    const { digest } = verifyMessage('settings', envelope);
    this.settings.set(digest, envelope);
    return digest;
  }

  /** Sets the receipt code of an update from now on. The node gets the receipt only when it asks. */
  judge(update: string, code: ReceiptCode): void {
    this.#receipts.set(update, code);
  }

  #receive(envelope: Uint8Array) {
    const opened = verifyMessage('update', envelope);
    this.updates.push(opened.message);
    if (this.code) this.#receipts.set(opened.message.payload.digest, this.code);
    return opened;
  }

  #signedHead() {
    return this.head && bytes(signMessage('head', this.head, this.#signer));
  }

  #receipt(peer: string, update: string, code: ReceiptCode) {
    const round = this.updates.find(({ payload }) => payload.digest === update)?.round ?? 1;
    const { job } = this.#toy;
    const receipt = { job, term: 1, round, peer, update, code, detail: '', issuedAt: 0 };
    return bytes(signMessage('receipt', receipt, this.#signer));
  }
}

function bytes(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return value.slice();
}
