/** A peer that knows a job's digest but has no invite learns nothing about the job, whatever it receives. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { decode } from '@ipld/dag-cbor';
import { identify } from '@libp2p/identify';
import type { Libp2p } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromString } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { encode } from 'it-length-prefixed';
import { createLibp2p } from 'libp2p';
import { base58btc } from 'multiformats/bases/base58';
import { expect, onTestFinished, test } from 'vitest';
import { ApiClient } from '../../coordinator/client/api-client.ts';
import { startCoordinator } from '../../coordinator/daemon.ts';
import { silentLogger } from '../../monitor/logs/log.ts';
import { FrameStream } from '../../net/frames.ts';
import { gossipService } from '../../net/libp2p/gossip-service.ts';
import { startNode } from '../../node/daemon/daemon.ts';
import { decodeInvite } from '../../protocol/access/invite.ts';
import { type BlobProof, proveMembership } from '../../protocol/access/job-key.ts';
import type { JobDetail } from '../../protocol/api/coordinator.ts';
import type { CreateJobLine } from '../../protocol/api/job-creation.ts';
import type { PeerView } from '../../protocol/api/peers.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import { jobChannels, jobTopic } from '../../protocol/job/topics.ts';
import {
  BLOB_PROTOCOL,
  OLD_RPC_PROTOCOLS,
  RPC_PROTOCOL,
  type RpcMethod,
  type RpcResponse,
  rpcMethods,
} from '../../protocol/requests/rpc.ts';
import type { DaemonFile } from '../../storage/daemon-home.ts';
import { eventually } from '../utils/eventually.ts';
import { temporaryFolder } from '../utils/folder.ts';
import { makeTinyModel, TINY_TEXT } from '../utils/models/tiny-model.ts';
import { rawGossip } from '../utils/swarm/hosts.ts';

const LOOPBACK = '/ip4/127.0.0.1/tcp/0';
const NAMES = ['cormorant-at-sea', 'badger-on-land'];
const JOB_NAME = 'whale-songs';
const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const framed = (bytes: Uint8Array): Uint8Array => encode.single(bytes).subarray();

/** A libp2p peer that records all bytes it receives, after the decryption of its connections. */
class Stranger {
  readonly node: Libp2p<{ pubsub: object; identify: unknown }>;
  /** Channels of gossip on which a message has arrived. */
  readonly heard = new Set<string>();
  readonly #received: Uint8Array[];

  private constructor(node: Libp2p<{ pubsub: object; identify: unknown }>, received: Uint8Array[]) {
    this.node = node;
    this.#received = received;
  }

  static async start(): Promise<Stranger> {
    const received: Uint8Array[] = [];
    const tapped: ReturnType<typeof noise> = (components) => {
      const library = noise()(components);
      const tap = <T extends { connection: unknown }>(secured: T): T => {
        const connection = secured.connection as { decrypt(message: unknown): { subarray(): Uint8Array } };
        const decrypt = connection.decrypt.bind(connection);
        connection.decrypt = (message) => {
          const plain = decrypt(message);
          received.push(Uint8Array.from(plain.subarray()));
          return plain;
        };
        return secured;
      };
      return {
        protocol: library.protocol,
        secureInbound: async (...parts) => tap(await library.secureInbound(...parts)),
        secureOutbound: async (...parts) => tap(await library.secureOutbound(...parts)),
      };
    };
    const node = await createLibp2p({
      addresses: { listen: [LOOPBACK] },
      transports: [tcp()],
      connectionEncrypters: [tapped],
      streamMuxers: [yamux()],
      services: { identify: identify(), pubsub: gossipService() },
    });
    onTestFinished(() => node.stop());
    return new Stranger(node, received);
  }

  /** All bytes received so far, in the order of their arrival. */
  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  subscribe(job: string): void {
    const gossip = rawGossip(this.node);
    for (const channel of jobChannels) {
      gossip.subscribe(jobTopic(job, channel), () => {
        this.heard.add(channel);
        return 'accept';
      });
    }
  }

  /** Makes a call, and returns the bytes of the answer. */
  async call(peer: string, protocol: string, method: string, body: object): Promise<Uint8Array> {
    const stream = await this.node.dialProtocol(peerIdFromString(peer), protocol, { signal: soon() });
    const frames = new FrameStream({ unreadBytes: 1024 * 1024 }, { stream });
    stream.send(framed(Buffer.from(method)));
    stream.send(framed(encodeCbor(body)));
    const answer = await frames.read(600_000, soon());
    // The callee allows only a few open calls on a connection.
    stream.abort(new Error('done'));
    return answer;
  }

  async askForBlob(peer: string, digest: string, proof?: BlobProof): Promise<Uint8Array> {
    const stream = await this.node.dialProtocol(peerIdFromString(peer), BLOB_PROTOCOL, { signal: soon() });
    const frames = new FrameStream({ unreadBytes: 4 * 1024 * 1024 }, { stream });
    stream.send(framed(encodeCbor({ digest, offset: 0, length: 1, ...(proof && { proof }) })));
    const answer = Uint8Array.from(await frames.read(256, soon()));
    stream.abort(new Error('done'));
    return answer;
  }
}

/** Starts a coordinator with a job that needs an invite, and two nodes that train. */
async function startSwarm() {
  const folder = await temporaryFolder();
  const home = join(folder, 'coordinator');
  const coordinator = await startCoordinator(
    { home, version: 'test', mdns: false, listen: [LOOPBACK] },
    { log: silentLogger },
  );
  onTestFinished(() => coordinator.stop({ deadlineMs: 4_000 }));
  const api = await ApiClient.open(home, 'coordinator', { signal: AbortSignal.timeout(120_000) });
  const train = join(folder, 'data.jsonl');
  const texts = Array.from({ length: 12 }, (_, i) => JSON.stringify({ text: `${i} ${TINY_TEXT}` }));
  await writeFile(train, texts.join('\n'));
  const spec = {
    name: JOB_NAME,
    base: await makeTinyModel(join(folder, 'tiny')),
    data: { train, heldOut: 0.2 },
    lora: { rank: 2, alpha: 4 },
    training: { sequenceLength: 32, batchSize: 2, microBatch: 2 },
    rounds: { count: 1_000, localSteps: 3, minPeers: 2 },
    acceptance: { tolerance: 1 },
    admission: 'invite',
  };
  const lines: CreateJobLine[] = [];
  for await (const line of api.createJob(spec)) lines.push(line);
  const detail = await api.job(JOB_NAME);
  const { job } = detail;
  const invite = detail.invite!;
  const addresses = new Map<string, string>();
  for (const name of NAMES) {
    const nodeHome = join(folder, name);
    const node = await startNode(
      {
        home: nodeHome,
        invite,
        name,
        version: 'test',
        listen: [LOOPBACK],
        mdns: false,
        compute: { threads: 1 },
      },
      { log: silentLogger },
    );
    onTestFinished(() => node.stop({ deadlineMs: 4_000 }));
    const file = JSON.parse(await readFile(join(nodeHome, 'node.json'), 'utf8')) as DaemonFile;
    addresses.set(node.peerId, file.addresses[0]!);
  }
  const peers = await eventually(
    async () => {
      const rounds = await api.checkpoints(JOB_NAME);
      return rounds.length > 2 ? api.peers() : null;
    },
    { timeout: 90_000, what: 'two checkpoints' },
  );
  return { coordinator, api, job, invite, peers, addresses };
}

/** Secrets that no peer outside the job may learn, in each encoding in which a message could contain them. */
async function secretsOf(api: ApiClient, peers: PeerView[], detail: JobDetail): Promise<Map<string, Buffer>> {
  const secrets = new Map<string, Buffer>();
  const text = (what: string, value: string): void =>
    void secrets.set(`${what} ${value}`, Buffer.from(value));
  const number = (what: string, value: number): void => {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value);
    secrets.set(`${what} ${value}`, bytes);
  };
  text('job', JOB_NAME);
  text('base', detail.manifest.base.digest);
  for (const { digest } of [...detail.manifest.base.files, ...detail.manifest.data.shards])
    text('blob', digest);
  for (const { peer, name, engine } of peers) {
    text('name', name);
    text('engine', engine);
    text('peer', peer);
    secrets.set(`key of ${peer}`, Buffer.from(base58btc.baseDecode(peer).subarray(6)));
  }
  for (const { checkpoint } of await api.checkpoints(JOB_NAME)) {
    text('adapter', checkpoint.adapter.digest);
    for (const { update } of checkpoint.contributors) text('update', update);
    if (checkpoint.metrics.heldOutLoss !== null) number('loss', checkpoint.metrics.heldOutLoss);
    if (checkpoint.metrics.trainLoss !== null) number('loss', checkpoint.metrics.trainLoss);
  }
  return secrets;
}

test('a peer without an invite receives nothing of a job, its nodes and its blobs', {
  timeout: 180_000,
}, async () => {
  const { coordinator, api, job, invite, peers, addresses } = await startSwarm();
  const detail = await api.job(JOB_NAME);
  const stranger = await Stranger.start();
  stranger.subscribe(job);
  await stranger.node.dial(multiaddr(coordinator.addresses[0]!));
  const to = coordinator.peerId;

  const about = { name: 's', agent: 'a', engine: 'e', tokensPerSecond: 0, sentAt: Date.now() };
  const [checkpoint] = await api.checkpoints(JOB_NAME);
  const [update] = checkpoint!.checkpoint.contributors;
  const adapterOf = checkpoint!.checkpoint.adapter;
  const blob = { digest: adapterOf.digest, size: adapterOf.size };
  const calls: [RpcMethod, object][] = [
    ['jobs', { invite: null }],
    ['jobs', { invite: 'guessed' }],
    ['join', { job, invite: null, ...about }],
    ['join', { job, invite: 'guessed', ...about }],
    ['manifest', { job, invite: null }],
    ['head', { job }],
    ['head', { job, known: { term: 1, sequence: 1 } }],
    ['receipt', { job, update: update!.update }],
    ['checkpoint', { job, digest: checkpoint!.digest }],
    ['record', { job, ordinal: 1, first: 0 }],
    ['figures', { job, round: checkpoint!.round }],
    ['settings', { job, record: 'cd'.repeat(32) }],
    ['contribution', { job }],
    ['recheck', { job, digest: adapterOf.digest }],
    ['recall', { job, after: 0 }],
    [
      'measure',
      {
        ...{ job, parent: checkpoint!.digest, adapter: adapterOf.digest, what: 'losses', update: null },
        batches: [{ round: 1, positions: [0] }],
      },
    ],
    ['evaluate', { job, adapter: blob, questions: blob, baseBits: 32 }],
    ['evaluation', { job, adapter: adapterOf.digest, questions: adapterOf.digest }],
    ['clock', {}],
    ['reach', { ports: [1] }],
    ['leave', { job, reason: '' }],
    ['submit', { update: new Uint8Array(10) }],
    ['notify', { receipt: new Uint8Array(10) }],
  ];
  expect(new Set(calls.map(([method]) => method))).toEqual(new Set(Object.keys(rpcMethods)));
  for (const [method, body] of calls) {
    expect(rpcMethods[method].request.safeParse(body).success, method).toBe(true);
    await stranger.call(to, RPC_PROTOCOL, method, body);
  }
  for (const protocol of OLD_RPC_PROTOCOLS)
    await stranger.call(to, protocol, 'join', { job, invite: null, ...about });
  const { base, data, adapter } = detail.manifest;
  const blobs = [...base.files, ...data.shards, adapter.initial, adapterOf].map(({ digest }) => digest);
  const unknown = await stranger.askForBlob(to, 'ef'.repeat(32));
  for (const digest of [...blobs, update!.update, checkpoint!.digest]) {
    expect(await stranger.askForBlob(to, digest)).toEqual(unknown);
  }
  // Meanwhile the nodes train and publish, and the coordinator announces new rounds.
  const before = (await api.checkpoints(JOB_NAME)).length;
  await eventually(async () => (await api.checkpoints(JOB_NAME)).length > before + 2, { timeout: 60_000 });
  await pause(2_500);

  expect([...stranger.heard], 'heads, which it cannot read').toEqual(['heads']);

  // A stranger also dials a node. The node's own key and addresses do not count as secrets, because each libp2p peer tells
  // them to everyone.
  const dialled = peers[0]!;
  const fromCoordinator = stranger.received;
  const other = await Stranger.start();
  other.subscribe(job);
  await other.node.dial(multiaddr(addresses.get(dialled.peer)!));
  for (const [method, body] of calls) await other.call(dialled.peer, RPC_PROTOCOL, method, body);
  for (const digest of blobs) expect(await other.askForBlob(dialled.peer, digest)).toEqual(unknown);
  await pause(5_000);
  const fromNode = other.received;

  const secrets = await secretsOf(api, peers, detail);
  const found = [...secrets].flatMap(([what, bytes]) => [
    ...(fromCoordinator.includes(bytes) ? [`${what} from the coordinator`] : []),
    ...(fromNode.includes(bytes) && !what.includes(dialled.peer) ? [`${what} from a node`] : []),
  ]);
  expect(found).toEqual([]);

  // A peer with the invite receives these secrets, which shows that the search above would have found them.
  const member = await Stranger.start();
  await member.node.dial(multiaddr(coordinator.addresses[0]!));
  const { token } = decodeInvite(invite);
  const answer = await member.call(to, RPC_PROTOCOL, 'join', { job, invite: token, ...about });
  const { keys } = decode<{ ok: RpcResponse<'join'> }>(answer).ok;
  const control = [...secrets].filter(([, bytes]) => member.received.includes(bytes)).map(([what]) => what);
  expect(control).toEqual(
    expect.arrayContaining([`job ${JOB_NAME}`, `peer ${dialled.peer}`, `base ${base.digest}`]),
  );
  // A node serves the member too, after the member has proved that it has the job key. No other peer can use this
  // proof.
  await member.node.dial(multiaddr(addresses.get(dialled.peer)!));
  const proof = proveMembership(job, keys, {
    requester: member.node.peerId.toString(),
    holder: dialled.peer,
  });
  const [shard] = data.shards;
  expect(await member.askForBlob(dialled.peer, shard!.digest)).toEqual(unknown);
  expect(decode(await member.askForBlob(dialled.peer, shard!.digest, proof))).toMatchObject({ status: 'ok' });
  expect(await member.askForBlob(dialled.peer, update!.update, proof)).toEqual(unknown);
  expect(await other.askForBlob(dialled.peer, shard!.digest, proof)).toEqual(unknown);
});
