import { reduce } from '../../../../node/machine/node-machine.ts';
import {
  initialState,
  isDone,
  type NodeEffect,
  type NodeEvent,
  type NodeState,
} from '../../../../node/machine/state.ts';
import type { Work } from '../../../../node/machine/work.ts';
import { STALE_ROUNDS } from '../../../../protocol/limits.ts';
import type { Head } from '../../../../protocol/messages.ts';
import type { ReceiptCode } from '../../../../protocol/receipts.ts';
import { makeHead, SELF } from '../heads.ts';

/** State that survives crashes. The error feedback is a number: each round adds 2 to it, and its update sends 1. */
class ModelDisk {
  readonly updates = new Map<number, { update: string; sent: number; outcome: string | null }>();
  residual = 0;
  /** Sum of all pseudo-gradients that updates were built from. */
  learned = 0;

  store(round: number, update: string): void {
    if (this.updates.has(round)) throw new Error(`round ${round} has two updates`);
    this.learned += 2;
    this.residual += 2;
    this.residual -= 1;
    this.updates.set(round, { update, sent: 1, outcome: null });
  }

  settle(round: number, outcome: string): void {
    const record = this.updates.get(round)!;
    if (record.outcome !== null)
      throw new Error(`round ${round} was settled as ${record.outcome} and ${outcome}`);
    record.outcome = outcome;
    if (outcome === 'restored') this.residual += record.sent;
  }

  /** Whether every pseudo-gradient is in the residual or with the coordinator. */
  conserved(): boolean {
    const away = [...this.updates.values()].filter(({ outcome }) => outcome !== 'restored');
    return this.learned === this.residual + away.reduce((sum, { sent }) => sum + sent, 0);
  }
}

/** A coordinator that a test controls. Its receipts are final once their round is over. */
class ModelCoordinator {
  sequence = 1;
  round = 1;
  checkpoint = 0;
  phase: Head['phase'] = 'training';
  assigned = true;
  /** Whether the coordinator is unable to fetch payloads at present. */
  refusing = false;
  included: string[] = [];
  readonly receipts = new Map<string, { round: number; code: ReceiptCode; merged: boolean }>();

  get head(): Head {
    const { sequence, round, checkpoint, phase, assigned, included } = this;
    return makeHead({ sequence, round, checkpoint, phase, assigned, included });
  }

  take(update: string, round: number): ReceiptCode {
    const known = this.receipts.get(update);
    if (known) return known.code;
    const age = this.round - round;
    const open = this.phase === 'training' || this.phase === 'paused' || this.phase === 'waiting';
    const timely = this.refusing ? 'unavailable' : 'accepted';
    const code = !open || age > STALE_ROUNDS ? 'wrong-round' : age > 0 ? 'late' : timely;
    this.receipts.set(update, { round, code, merged: false });
    return code;
  }

  /**
   * Ends the round. With `merge`, its checkpoint includes all updates of the node that have no outcome yet. With
   * `leave-out`, it includes none of them. With `null`, the round is a null round. `last`: whether the job ends, too.
   */
  close(how: 'merge' | 'leave-out' | 'null', last: boolean): void {
    this.included = [];
    for (const [update, receipt] of this.receipts) {
      if (receipt.merged || (receipt.code !== 'accepted' && receipt.code !== 'late')) continue;
      if (how === 'merge') {
        receipt.merged = true;
        this.included.push(update);
      } else receipt.code = how === 'null' ? 'null-round' : 'left-out';
    }
    if (how !== 'null') this.checkpoint = this.round;
    this.sequence++;
    if (last) this.phase = 'finished';
    else this.round++;
  }
}

type Doing = Exclude<NodeEffect, { type: 'abort' | 'leave' }>;

/** A model of one node and its coordinator. The test decides what happens next, and which messages are lost. */
export class NodeModel {
  readonly disk = new ModelDisk();
  readonly coordinator = new ModelCoordinator();
  readonly heads: Head[] = [this.coordinator.head];
  readonly notices: { round: number; code: ReceiptCode }[] = [];
  state: NodeState = initialState(SELF);
  now = 0;
  /** Effects that are running. */
  doing: Doing[] = [];
  #made = 0;

  constructor() {
    this.send({ type: 'start' });
  }

  send(event: NodeEvent): void {
    const { state, effects } = reduce(this.state, event, this.now);
    this.state = state;
    for (const effect of effects) {
      if (effect.type === 'abort') this.doing = this.doing.filter(({ type }) => !isMain(type));
      else if (effect.type !== 'leave') this.doing.push(effect);
    }
    const main = this.doing.filter(({ type }) => isMain(type));
    if (main.length > 1) throw new Error(`at once: ${main.map(({ type }) => type)}`);
    if (!this.disk.conserved()) throw new Error('error feedback is not conserved');
  }

  /** Advances the time and ticks. */
  tick(ms: number): void {
    this.now += ms;
    this.send({ type: 'tick' });
  }

  /** Ends one running effect, with success or failure. */
  finish(index: number, well: boolean): void {
    const [effect] = this.doing.splice(index % Math.max(1, this.doing.length), 1);
    if (!effect) return;
    switch (effect.type) {
      case 'build-update':
        this.#buildUpdate(effect.work, well);
        break;
      case 'publish':
        if (well) this.#deliver(effect.round);
        break;
      case 'ask':
      case 'submit':
        this.#inquire(effect, well);
        break;
      case 'settle':
        this.disk.settle(effect.round, effect.outcome);
        break;
      case 'poll':
        if (well) this.send({ type: 'head', head: this.coordinator.head });
        if (effect.rejoin) this.send(well ? { type: 'rejoined' } : { type: 'rejoin-failed', jitter: 0.5 });
        break;
      default:
        this.send(well ? this.#success(effect) : this.#failure(effect));
    }
  }

  /** Stores an update although a newer head has already aborted the work on it. */
  buildAnyway(): void {
    const index = this.doing.findIndex(({ type }) => type === 'build-update');
    const effect = this.doing[index];
    if (effect?.type !== 'build-update') return;
    this.doing.splice(index, 1);
    this.coordinator.close('null', false);
    this.heads.push(this.coordinator.head);
    this.send({ type: 'head', head: this.coordinator.head });
    this.#buildUpdate(effect.work, true);
  }

  crash(): void {
    this.doing = [];
    this.state = initialState(SELF);
    this.send({ type: 'start' });
  }

  /** Ends the job, with every effect succeeding from now on, and checks the outcomes. */
  settle(): void {
    this.coordinator.close('merge', true);
    for (let turns = 0; !isDone(this.state) || this.doing.length > 0; turns++) {
      if (turns > 500) throw new Error(`stuck: ${JSON.stringify(this.state)} ${JSON.stringify(this.doing)}`);
      if (this.doing.length > 0) this.finish(0, true);
      else this.tick(60_000);
    }
    for (const [round, { update, outcome }] of this.disk.updates) {
      const expected = this.coordinator.receipts.get(update)?.merged ? 'counted' : 'restored';
      if (outcome !== expected) throw new Error(`round ${round} is ${outcome}, should be ${expected}`);
    }
  }

  #success(effect: Extract<Doing, { type: 'join' | 'sync' | 'train' }>): NodeEvent {
    if (effect.type === 'join') {
      return { type: 'joined', head: this.coordinator.head, history: this.#history() };
    }
    if (effect.type === 'train') return { type: 'trained', work: effect.work };
    return { type: 'synced', adapter: effect.head.checkpoint.adapter.digest };
  }

  #failure(effect: Extract<Doing, { type: 'join' | 'sync' | 'train' }>): NodeEvent {
    const reason = 'test';
    if (effect.type === 'join') return { type: 'join-failed', reason, jitter: 0.5 };
    if (effect.type === 'train') return { type: 'train-failed', work: effect.work, reason };
    return { type: 'sync-failed', adapter: effect.head.checkpoint.adapter.digest, reason, jitter: 0.5 };
  }

  #buildUpdate(work: Work, well: boolean): void {
    if (!well) {
      this.send({ type: 'build-failed', work, reason: 'test' });
      return;
    }
    const update = `update-${work.round}-${++this.#made}`;
    this.disk.store(work.round, update);
    this.send({ type: 'update-built', work, update });
  }

  #deliver(round: number): void {
    const { update } = this.disk.updates.get(round)!;
    this.notices.push({ round, code: this.coordinator.take(update, round) });
  }

  #inquire(effect: Extract<Doing, { type: 'ask' | 'submit' }>, well: boolean): void {
    const { round, generation } = effect;
    if (!well) {
      this.send({ type: 'ask-failed', round, jitter: 0.5 });
      return;
    }
    const { update } = this.disk.updates.get(round)!;
    const code =
      effect.type === 'submit'
        ? this.coordinator.take(update, round)
        : this.coordinator.receipts.get(update)?.code;
    if (code) this.send({ type: 'receipt', round, code, generation: generation });
    else this.send({ type: 'receipt-unknown', round });
  }

  #history() {
    const updates = [...this.disk.updates];
    return {
      lastRound: Math.max(0, ...updates.map(([round]) => round)),
      pending: updates
        .filter(([, { outcome }]) => outcome === null)
        .map(([round, { update }]) => ({ round, update, code: null })),
    };
  }
}

function isMain(type: NodeEffect['type']): boolean {
  return type === 'join' || type === 'sync' || type === 'train' || type === 'build-update';
}
