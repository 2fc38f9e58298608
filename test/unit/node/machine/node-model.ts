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

/** What a node keeps across crashes, with error feedback as a number: the whole of a change, half of it sent. */
class ModelDisk {
  readonly updates = new Map<number, { update: string; sent: number; outcome: string | null }>();
  residual = 0;
  /** Sum of all changes that were ever made into an update. */
  learned = 0;

  seal(round: number, update: string): void {
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

  /** Error feedback loses nothing: what was learned is in the residual, or with the coordinator. */
  conserved(): boolean {
    const away = [...this.updates.values()].filter(({ outcome }) => outcome !== 'restored');
    return this.learned === this.residual + away.reduce((sum, { sent }) => sum + sent, 0);
  }
}

/** A coordinator that decides as it is told, and whose word is final once a round is over. */
class ModelCoordinator {
  sequence = 1;
  round = 1;
  checkpoint = 0;
  phase: Head['phase'] = 'training';
  assigned = true;
  /** Whether payloads cannot be fetched at present. */
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

  /** Ends the round: a checkpoint with all or none of the node's open updates, or a null round. */
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

/** One node and its coordinator; whoever drives it decides what happens next, and what gets lost. */
export class NodeModel {
  readonly disk = new ModelDisk();
  readonly judge = new ModelCoordinator();
  readonly heads: Head[] = [this.judge.head];
  readonly notices: { round: number; code: ReceiptCode }[] = [];
  state: NodeState = initialState(SELF);
  now = 0;
  /** Effects that have begun and not ended. */
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

  /** Time passes until the machine wants to be woken. */
  tick(ms: number): void {
    this.now += ms;
    this.send({ type: 'tick' });
  }

  /** One effect ends, well or badly. */
  finish(index: number, well: boolean): void {
    const [effect] = this.doing.splice(index % Math.max(1, this.doing.length), 1);
    if (!effect) return;
    switch (effect.type) {
      case 'seal':
        this.#seal(effect.work, well);
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
        if (well) this.send({ type: 'head', head: this.judge.head });
        break;
      default:
        this.send(well ? this.#success(effect) : this.#failure(effect));
    }
  }

  /** The update is stored although something newer has already ended the work on it. */
  sealAnyway(): void {
    const index = this.doing.findIndex(({ type }) => type === 'seal');
    const effect = this.doing[index];
    if (effect?.type !== 'seal') return;
    this.doing.splice(index, 1);
    this.judge.close('null', false);
    this.heads.push(this.judge.head);
    this.send({ type: 'head', head: this.judge.head });
    this.#seal(effect.work, true);
  }

  crash(): void {
    this.doing = [];
    this.state = initialState(SELF);
    this.send({ type: 'start' });
  }

  /** Everything works from here on: the job ends, every question is answered. */
  settle(): void {
    this.judge.close('merge', true);
    for (let turns = 0; !isDone(this.state) || this.doing.length > 0; turns++) {
      if (turns > 500) throw new Error(`stuck: ${JSON.stringify(this.state)} ${JSON.stringify(this.doing)}`);
      if (this.doing.length > 0) this.finish(0, true);
      else this.tick(60_000);
    }
    for (const [round, { update, outcome }] of this.disk.updates) {
      const expected = this.judge.receipts.get(update)?.merged ? 'counted' : 'restored';
      if (outcome !== expected) throw new Error(`round ${round} is ${outcome}, should be ${expected}`);
    }
  }

  #success(effect: Extract<Doing, { type: 'join' | 'sync' | 'train' }>): NodeEvent {
    if (effect.type === 'join') {
      return { type: 'joined', head: this.judge.head, remembered: this.#remembered() };
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

  #seal(work: Work, well: boolean): void {
    if (!well) {
      this.send({ type: 'seal-failed', work, reason: 'test' });
      return;
    }
    const update = `update-${work.round}-${++this.#made}`;
    this.disk.seal(work.round, update);
    this.send({ type: 'sealed', work, update });
  }

  #deliver(round: number): void {
    const { update } = this.disk.updates.get(round)!;
    this.notices.push({ round, code: this.judge.take(update, round) });
  }

  #inquire(effect: Extract<Doing, { type: 'ask' | 'submit' }>, well: boolean): void {
    const { round, generation } = effect;
    if (!well) {
      this.send({ type: 'ask-failed', round, jitter: 0.5 });
      return;
    }
    const { update } = this.disk.updates.get(round)!;
    const code =
      effect.type === 'submit' ? this.judge.take(update, round) : this.judge.receipts.get(update)?.code;
    if (code) this.send({ type: 'receipt', round, code, asked: generation });
    else this.send({ type: 'receipt-unknown', round });
  }

  #remembered() {
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
  return type === 'join' || type === 'sync' || type === 'train' || type === 'seal';
}
