import { decodeAdapter } from '../../../lora/adapter/codec.ts';
import type { Row } from '../../../lora/data/row.ts';
import { placesInRound, readRows } from '../../../lora/data/shards/round-rows.ts';
import { encodeUpdate } from '../../../lora/update/index.ts';
import type { Head } from '../../../protocol/messages.ts';
import { verifyMessage } from '../../../protocol/signing.ts';
import { ScriptedPeer, training } from './scripted-peer.ts';
import { World, type WorldOptions } from './world.ts';

const { signal } = new AbortController();
/** The loss over all rows is lowest if all parameters have this value. They start at 0.5. */
const OPTIMUM = 0.25;

/** Returns the gradient of half the squared distance from the optimum of the rows. Each row has its own optimum. */
export function gradient(adapter: readonly Float32Array[], rows: readonly Row[]): Float32Array[] {
  return adapter.map((tensor, t) =>
    tensor.map((value, i) => {
      const wish = rows.reduce(
        (sum, { ids }) => sum + Math.sin(ids[0]! * (12.9898 * t + 78.233 * i + 1)) / rows.length,
        0,
      );
      return value - OPTIMUM - wish;
    }),
  );
}

/** What a peer sends. `flip`: its update with the wrong sign. `copy`: peer 0's update. `turncoat`: a copy after round 3. */
export type Behaviour = 'honest' | 'flip' | 'copy' | 'turncoat';

/** A world of peers that train for real on the toy loss, or only seem to. */
export class ToySwarm {
  readonly world: World;
  readonly #behaviours: readonly Behaviour[];
  peers: ScriptedPeer[] = [];

  constructor(behaviours: readonly Behaviour[], options: WorldOptions = {}) {
    this.#behaviours = behaviours;
    this.world = new World({
      rows: 512,
      gradient,
      ...options,
      rounds: { minPeers: behaviours.length, preset: 'dense', count: 3, ...options.rounds },
    });
  }

  /** Starts the job. @param count number of peers that join now. @default all peers */
  async start(count = this.#behaviours.length): Promise<Head> {
    const { peers, head } = await training(this.world, count);
    this.peers = peers;
    return head;
  }

  /** Lets the peers join that have not joined at the start. */
  async join(): Promise<void> {
    while (this.peers.length < this.#behaviours.length) {
      const peer = new ScriptedPeer(this.peers.length + 1, this.world);
      await peer.join();
      this.peers.push(peer);
    }
  }

  async #change(head: Head, peer: ScriptedPeer): Promise<Float32Array[]> {
    const { toy, disk } = this.world;
    const { data } = toy.manifest;
    const { start, end } = head.assignments.find((one) => one.peer === peer.id)!;
    const positions = Array.from({ length: end - start }, (_, i) => start + i);
    const key = { job: toy.job, round: head.round, parent: head.checkpoint.digest };
    const read = async ({ digest }: { digest: string }) => disk.files.get(digest)!;
    const rows = await readRows(data, placesInRound(data, key, positions), { read, signal });
    const adapter = decodeAdapter(disk.files.get(head.checkpoint.adapter.digest)!, toy.layout);
    return gradient(adapter, rows).map((tensor) => tensor.map((value) => 0.05 * value));
  }

  /** Delivers an update of every peer that has work, or of some. */
  async deliver(head: Head, some: readonly ScriptedPeer[] = this.peers): Promise<void> {
    const { layout } = this.world.toy;
    for (const [i, peer] of this.peers.entries()) {
      if (!some.includes(peer) || !head.assignments.some((one) => one.peer === peer.id)) continue;
      const behaviour = this.#behaviours[i]!;
      const isCopy = behaviour === 'copy' || (behaviour === 'turncoat' && head.round > 3);
      const change = await this.#change(head, isCopy ? this.peers[0]! : peer);
      const factor = { honest: 1, copy: 1, turncoat: 1, flip: -1 }[behaviour];
      const values = change.map((tensor) => tensor.map((value) => factor * value));
      const payload = encodeUpdate(layout, values, head.preset).bytes;
      await peer.submit(peer.seal(peer.update(head, {}, payload)));
    }
  }

  /** Plays rounds until the job has a checkpoint of `round`. @param pauseMs time that passes before each delivery */
  async play(head: Head, round: number, pauseMs = 0): Promise<void> {
    let current = head;
    while (current.round <= round) {
      if (pauseMs > 0) await this.world.pass(pauseMs);
      await this.deliver(current);
      const { round: played } = current;
      await this.world.until(
        () => this.world.run.record.checkpoint.checkpoint.round === played,
        `checkpoint ${played}`,
      );
      for (const peer of this.peers) await peer.heartbeat('awaiting');
      current = await this.peers[0]!.head();
      if (current.phase === 'finished') return;
    }
  }

  /** Weights in the checkpoint of a round, by peer number; null: not a contributor. */
  weights(round: number): (number | null)[] {
    const { store, toy } = this.world;
    const { message } = verifyMessage('checkpoint', store.rounds.checkpoint(toy.job, round)!.envelope);
    return this.peers.map(({ id }) => message.contributors.find(({ peer }) => peer === id)?.weight ?? null);
  }

  scores(round: number) {
    const { store, toy } = this.world;
    const scores = store.scores.ofMerge(toy.job, round);
    return this.peers.map(({ id }) => scores.find(({ peer }) => peer === id)!);
  }
}
