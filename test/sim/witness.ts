import type { StoredUpdate } from '../../coordinator/store/store.ts';
import { decryptHead } from '../../protocol/access/job-key.ts';
import { SealingKey } from '../../protocol/access/sealing.ts';
import { sha256 } from '../../protocol/cbor.ts';
import { keepEvidence } from '../../protocol/evidence.ts';
import type { Head } from '../../protocol/messages.ts';
import { counts } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { SimulatedSwarm } from './simulated-swarm.ts';

/** A message, as it enters the network. */
interface Message {
  readonly from: string;
  readonly kind: string;
  readonly bytes: Uint8Array;
}

/**
 * Checks the rules that hold in every run: each update is signed, and is merged at most once and in one version. No signed
 * message of an honest peer is contradicted, there is one chain of checkpoints, and all nodes hold one adapter. Hears all
 * messages, and at the end reads all stores.
 */
export class Witness {
  readonly #swarm: SimulatedSwarm;
  readonly #violations = new Set<string>();
  /** Payload of each honest node's update, by author and round. */
  readonly #updates = new Map<string, string>();
  /** Payloads of all signed updates, those of adversaries too, by author and round. */
  readonly #signed = new Map<string, Set<string>>();
  /** Digests of the evidence of updates whose bytes an adversary has changed. */
  readonly #damaged = new Set<string>();
  readonly #heads = new Map<string, string>();
  readonly #seen = new Set<string>();
  #newest: Head | null = null;
  /** Ordinal of each checkpoint, as heads announced it. */
  readonly #ordinals = new Map<string, number>();

  constructor(swarm: SimulatedSwarm) {
    this.#swarm = swarm;
  }

  get updatesSeen(): number {
    return this.#updates.size;
  }

  hear({ from, kind, bytes: sent }: Message): void {
    if (kind !== 'heads' && kind !== 'updates' && kind !== 'submit') return;
    const bytes = this.#readable(from, kind, sent);
    const digest = sha256(bytes);
    if (this.#seen.has(digest)) return;
    this.#seen.add(digest);
    if (kind === 'heads') this.#head(bytes, digest);
    else this.#update(bytes);
  }

  /** Hears a message of an adversary. Only signed updates matter, because the coordinator must ignore all other messages. */
  hearAdversary({ from, kind, bytes }: Message): void {
    if (kind !== 'updates' && kind !== 'submit') return;
    try {
      this.#noteUpdate(this.#readable(from, kind, bytes));
    } catch {
      // Adversaries also send messages that cannot be opened, or have a wrong signature.
    }
  }

  /** Decrypts a message with the keys of the coordinator. */
  #readable(author: string, kind: string, bytes: Uint8Array): Uint8Array {
    if (kind === 'submit') return bytes;
    const { job } = this.#swarm.toy;
    const keys = this.#swarm.coordinator.store.keys.find(job)!;
    if (kind === 'heads') return decryptHead(bytes, job, keys);
    return new SealingKey(keys.seal).open(bytes, { kind: 'update', job, author });
  }

  #head(bytes: Uint8Array, digest: string): void {
    const { message: head } = verifyMessage('head', bytes);
    const moment = `${head.term}/${head.sequence}`;
    const known = this.#heads.get(moment);
    if (known && known !== digest) this.#violations.add(`two heads ${moment}`);
    this.#heads.set(moment, digest);
    const before = this.#newest;
    if (before && (head.round < before.round || head.checkpoint.round < before.checkpoint.round)) {
      this.#violations.add(`head ${moment} goes back from round ${before.round} to ${head.round}`);
    }
    this.#newest = head;
    this.#ordinals.set(head.checkpoint.digest, head.checkpoint.ordinal);
  }

  #update(bytes: Uint8Array): void {
    const { author, message } = this.#noteUpdate(bytes);
    const key = `${author} in round ${message.round}`;
    const known = this.#updates.get(key);
    if (known && known !== message.payload.digest) this.#violations.add(`two updates of ${key}`);
    this.#updates.set(key, message.payload.digest);
  }

  /** Notes that an adversary sends an update with changed bytes. */
  hearDamaged(original: Uint8Array, changed: Uint8Array): void {
    try {
      const evidence = sha256(keepEvidence(changed));
      // Evidence contains no payload, so a change of the payload alone leaves the evidence the same.
      if (evidence !== sha256(keepEvidence(original))) this.#damaged.add(evidence);
    } catch {
      // The coordinator cannot record these bytes as an update, because they are no longer a message.
    }
  }

  #noteUpdate(bytes: Uint8Array) {
    const verified = verifyMessage('update', bytes);
    const { author, message } = verified;
    const key = keyOf({ peer: author, round: message.round });
    const payloads = this.#signed.get(key) ?? new Set();
    this.#signed.set(key, payloads.add(message.payload.digest));
    return verified;
  }

  /**
   * Checks the rules that can be checked only at the end.
   * @returns the violated rules
   */
  verdict(): string[] {
    const hostile = this.#swarm.adversaries.map(({ node }) => node.peer);
    const rejected = this.#swarm.network.rejected.filter(
      (what) => !hostile.some((peer) => what.includes(`from ${peer} `)),
    );
    const found = [...this.#violations, ...rejected.map((what) => `rejected ${what}`)];
    const say = (violation: string): void => {
      found.push(violation);
    };
    this.#checkChain(say);
    this.#checkUpdates(say);
    this.#checkNodes(say);
    this.#checkDisk(say);
    return found;
  }

  #checkpoints() {
    const { store } = this.#swarm.coordinator;
    return store.rounds.checkpoints(this.#swarm.toy.job).map(({ round, digest, envelope }) => ({
      round,
      digest,
      checkpoint: verifyMessage('checkpoint', envelope).message,
    }));
  }

  #checkChain(say: (violation: string) => void): void {
    const all = this.#checkpoints();
    const { count } = this.#swarm.toy.manifest.rounds;
    if (all.length !== count + 1) say(`${all.length - 1} checkpoints instead of ${count}`);
    for (const [i, { round, checkpoint }] of all.entries()) {
      const parent = all[i - 1];
      const told = this.#ordinals.get(all[i]!.digest);
      if (told !== undefined && told !== i)
        say(`checkpoint ${round} is announced as number ${told}, but is number ${i}`);
      if (checkpoint.parent !== (parent?.digest ?? null)) say(`checkpoint ${round} has another parent`);
      if (parent && round <= parent.round) say(`checkpoint ${round} comes after ${parent.round}`);
      const { minPeers } = this.#swarm.toy.manifest.rounds;
      const { adapter, contributors, delta } = checkpoint;
      const isRollBack = all.slice(0, i).some((one) => one.checkpoint.adapter.digest === adapter.digest);
      if (i > 0 && contributors.length === 0 && (!isRollBack || delta !== null))
        say(`checkpoint ${round} has no contributors of ${minPeers}, and restores no checkpoint`);
    }
  }

  /** Checks that an update whose final receipt counts is in exactly one checkpoint, and any other update in none. */
  #checkUpdates(say: (violation: string) => void): void {
    const { store } = this.#swarm.coordinator;
    const { job } = this.#swarm.toy;
    const merged = new Map<string, number>();
    for (const { checkpoint } of this.#checkpoints()) {
      for (const { peer, round } of checkpoint.contributors) {
        const key = keyOf({ peer, round });
        merged.set(key, (merged.get(key) ?? 0) + 1);
      }
    }
    for (const [key, times] of merged) if (times !== 1) say(`${key} is merged ${times} times`);
    for (const update of store.updates.ofRounds(job, 0, Number.MAX_SAFE_INTEGER)) {
      const times = merged.get(keyOf(update)) ?? 0;
      const receipt = store.updates.receipt(job, update.peer, update.digest);
      if (!receipt) say(`${keyOf(update)} has no receipt`);
      else if (counts(receipt.code) !== (times === 1))
        say(`${keyOf(update)} is ${receipt.code}, merged ${times} times`);
      if (update.fate === 'open') say(`${keyOf(update)} is never settled`);
      if (this.#damaged.has(sha256(update.evidence))) say(`${keyOf(update)} was damaged after it was signed`);
      const counted = [...(this.#signed.get(keyOf(update)) ?? [])].filter((digest) => {
        const code = store.updates.receipt(job, update.peer, digest)?.code;
        return code !== undefined && counts(code);
      });
      if (counted.length > 1) say(`${keyOf(update)} counts in ${counted.length} versions`);
    }
  }

  /** Checks that the coordinator's disk has exactly the blobs that its database needs. */
  #checkDisk(say: (violation: string) => void): void {
    const { store, disk } = this.#swarm.coordinator;
    for (const digest of disk.files.keys()) {
      if (!store.blobs.needs(digest)) say(`the coordinator keeps the unneeded blob ${digest}`);
    }
    const payloads = store.updates.ofRounds(this.#swarm.toy.job, 0, Number.MAX_SAFE_INTEGER);
    const needed = this.#checkpoints().flatMap(({ digest, checkpoint }) => [
      digest,
      checkpoint.adapter.digest,
      ...(checkpoint.delta ? [checkpoint.delta.digest] : []),
    ]);
    // Checked independently of the database, because joining and exporting need the newest adapter.
    const { adapter } = this.#checkpoints().at(-1)!.checkpoint;
    if (!disk.files.has(adapter.digest)) say('the coordinator has lost the newest adapter');
    needed.push(...payloads.map(({ digest }) => digest));
    for (const digest of needed) {
      if (store.blobs.needs(digest) && !disk.files.has(digest)) say(`the coordinator has lost ${digest}`);
    }
  }

  #checkNodes(say: (violation: string) => void): void {
    const { coordinator, nodes, toy } = this.#swarm;
    const adapter = this.#checkpoints().at(-1)!.checkpoint.adapter.digest;
    const fates = new Map<string, StoredUpdate>();
    for (const update of coordinator.store.updates.ofRounds(toy.job, 0, Number.MAX_SAFE_INTEGER)) {
      fates.set(keyOf(update), update);
    }
    for (const [i, node] of nodes.entries()) {
      const name = `node ${i + 1}`;
      const { store } = node;
      if (store.job(toy.job).adapter !== adapter) say(`${name} does not hold the last adapter`);
      for (const { round, outcome } of store.updates(Number.MAX_SAFE_INTEGER)) {
        const expected =
          fates.get(keyOf({ peer: node.peer, round }))?.fate === 'merged' ? 'counted' : 'restored';
        if (outcome !== expected)
          say(`${name} holds its update of round ${round} for ${outcome}, it is ${expected}`);
      }
      // The node's disk has no blob that is no longer needed.
      const { feedback, optimizer } = store.job(toy.job);
      const needed = new Set([
        feedback,
        optimizer,
        adapter,
        ...toy.blobs.slice(2).map((bytes) => sha256(bytes)),
      ]);
      needed.add(sha256(toy.blobs[0]!));
      for (const digest of node.disk.files.keys())
        if (!needed.has(digest)) say(`${name} keeps the unneeded blob ${digest}`);
    }
  }
}

function keyOf({ peer, round }: { peer: string; round: number }): string {
  return `the update of ${peer.slice(-6)} in round ${round}`;
}
