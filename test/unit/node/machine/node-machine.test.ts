import { describe, expect, test } from 'vitest';
import { reduce } from '../../../../node/machine/node-machine.ts';
import {
  dueAt,
  initialState,
  isDone,
  type JobHistory,
  type NodeEffect,
  type NodeEvent,
  type NodeState,
} from '../../../../node/machine/state.ts';
import { HEAD_SILENCE_MS, OLD_HEAD_POLL_MS, RECEIPT_WAIT_MS } from '../../../../node/machine/times.ts';
import { digest, type HeadPlan, makeHead, SELF } from '../heads.ts';

const UPDATE = digest('update', 1);

/** Sends events to the machine and keeps the effects of the last one. */
class Driver {
  state: NodeState = initialState(SELF);
  now = 0;
  effects: NodeEffect[] = [];

  send(event: NodeEvent): this {
    const { state, effects } = reduce(this.state, event, this.now);
    this.state = state;
    this.effects = [...effects];
    return this;
  }

  head(plan: HeadPlan): this {
    return this.send({ type: 'head', head: makeHead(plan) });
  }

  join(plan: HeadPlan | null, history: JobHistory = { lastRound: 0, pending: [] }): this {
    this.send({ type: 'start' });
    return this.send({ type: 'joined', head: plan && makeHead(plan), history });
  }

  /** Drives a new machine to the training of a round. */
  training(plan: HeadPlan): this {
    this.join(plan);
    return this.send({ type: 'synced', adapter: makeHead(plan).checkpoint.adapter.digest });
  }

  /** Drives a new machine to a sent update. */
  sent(plan: HeadPlan): this {
    const { work } = this.training(plan).state;
    return this.send({ type: 'trained', work: work! }).send({
      type: 'update-built',
      work: work!,
      update: UPDATE,
    });
  }

  get types(): string[] {
    return this.effects.map(({ type }) => type);
  }
}

const driver = (): Driver => new Driver();

test('a round from joining to the next head', () => {
  const node = driver().join({ sequence: 1, round: 1 });
  expect(node.state.phase).toBe('syncing');
  expect(node.types).toEqual(['sync']);
  node.send({ type: 'synced', adapter: digest('adapter', 0) });
  expect(node.state.phase).toBe('training');
  expect(node.types).toEqual(['train']);
  const work = node.state.work!;
  expect(work).toMatchObject({ round: 1, start: 0, end: 8, steps: 2, parent: digest('checkpoint', 0) });
  node.send({ type: 'trained', work });
  expect(node.state.phase).toBe('publishing');
  expect(node.types).toEqual(['build-update']);
  node.send({ type: 'update-built', work, update: UPDATE });
  expect(node.types).toEqual(['publish']);
  node.send({ type: 'receipt', round: 1, code: 'accepted', generation: null });
  expect(node.state.phase).toBe('awaiting');
  node.head({ sequence: 2, round: 2, included: [UPDATE] });
  expect(node.effects[0]).toEqual({ type: 'settle', round: 1, outcome: 'counted' });
  expect(node.state.phase).toBe('syncing');
  expect(node.state.pending).toEqual([]);
});

describe('heads', () => {
  test('names the round that ended before the node had finished it', () => {
    const node = driver().training({ sequence: 1, round: 1 }).head({ sequence: 2, round: 1 });
    expect(node.state.missedRound).toBe(null);
    expect(node.head({ sequence: 3, round: 2 }).state.missedRound).toBe(1);
    // The node did not get the adapter of round 2 in time.
    expect(node.head({ sequence: 4, round: 3, phase: 'finished' }).state.missedRound).toBe(2);
    const sent = driver().sent({ sequence: 1, round: 1 }).head({ sequence: 2, round: 2 });
    expect(sent.state.missedRound).toBe(null);
    const idle = driver().join({ sequence: 1, round: 4, assigned: false }).head({ sequence: 2, round: 5 });
    expect(idle.state.missedRound).toBe(null);
  });

  test('a newer head aborts stale training at once, and the result is dropped', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    const work = node.state.work!;
    node.head({ sequence: 2, round: 2 });
    expect(node.types).toEqual(['abort', 'sync']);
    node.send({ type: 'trained', work });
    expect(node.types).toEqual([]);
    expect(node.state.phase).toBe('syncing');
  });

  test('a head that asks for the same work does not interrupt it', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    node.head({ sequence: 2, round: 1 });
    expect(node.types).toEqual([]);
    expect(node.state.phase).toBe('training');
  });

  test('ignores older heads and heads of an older term', () => {
    const node = driver().training({ sequence: 5, round: 3, term: 2 });
    node.head({ sequence: 9, round: 4, term: 1 }).head({ sequence: 4, round: 2, term: 2 });
    expect(node.state.head).toMatchObject({ round: 3, term: 2 });
    expect(node.state.phase).toBe('training');
  });

  test('a node without an interval waits for the next round', () => {
    const node = driver().join({ sequence: 1, round: 4, assigned: false });
    node.send({ type: 'synced', adapter: digest('adapter', 3) });
    expect(node.state.phase).toBe('awaiting');
    node.head({ sequence: 2, round: 5 });
    node.send({ type: 'synced', adapter: digest('adapter', 4) });
    expect(node.state.phase).toBe('training');
  });

  test('a head that asks for the held adapter during a fetch stores the held adapter again', () => {
    const node = driver().join({ sequence: 1, round: 4, phase: 'paused' });
    const held = node.state.fetching!;
    node.send({ type: 'synced', adapter: held }).head({ sequence: 2, round: 5, phase: 'paused' });
    expect(node.state.fetching).not.toBe(held);
    // The operator rolls the job back to the held adapter. Meanwhile, the fetch may already have stored the other
    // adapter.
    const { checkpoint } = makeHead({ sequence: 1, round: 4 });
    node.send({
      type: 'head',
      head: { ...makeHead({ sequence: 3, round: 6, phase: 'paused' }), checkpoint },
    });
    expect(node.types).toEqual(['abort', 'sync']);
    expect(node.send({ type: 'synced', adapter: held }).state).toMatchObject({
      phase: 'awaiting',
      adapter: held,
    });
  });

  test('a node without work in three rounds in a row joins again', () => {
    const driver = new Driver().join({ sequence: 1, round: 1, assigned: false });
    const polls = (plan: HeadPlan): boolean =>
      driver.head(plan).effects.some((effect) => effect.type === 'poll' && effect.rejoin);
    expect(polls({ sequence: 2, round: 2, assigned: false })).toBe(false);
    // A head of the same round, and a pause, do not count as further rounds.
    expect(polls({ sequence: 3, round: 2, assigned: false })).toBe(false);
    expect(polls({ sequence: 4, round: 3, phase: 'paused' })).toBe(false);
    expect(polls({ sequence: 5, round: 4, assigned: false })).toBe(true);
    expect(polls({ sequence: 6, round: 5, assigned: false })).toBe(false);
  });

  test('a pause aborts training; when the job resumes, the round is trained from the start', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    node.head({ sequence: 2, round: 1, phase: 'paused' });
    expect(node.types).toEqual(['abort']);
    expect(node.state.phase).toBe('awaiting');
    node.head({ sequence: 3, round: 1 });
    expect(node.types).toEqual(['train']);
  });

  test('follows heads that arrived while the base was fetched', () => {
    const node = driver().send({ type: 'start' }).head({ sequence: 7, round: 3 });
    expect(node.types).toEqual([]);
    node.send({
      type: 'joined',
      head: makeHead({ sequence: 5, round: 2 }),
      history: { lastRound: 0, pending: [] },
    });
    expect(node.effects).toMatchObject([{ type: 'sync', head: { round: 3 } }]);
  });

  test('asks for the head after a silence', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    node.send({ type: 'tick' });
    node.now = dueAt(node.state)!;
    expect(node.now).toBe(HEAD_SILENCE_MS);
    node.send({ type: 'tick' });
    expect(node.effects).toEqual([{ type: 'poll', rejoin: false }]);
  });

  test('joins again when the coordinator comes back', () => {
    const node = driver().training({ sequence: 1, round: 1 }).send({ type: 'connected' });
    expect(node.effects).toEqual([{ type: 'poll', rejoin: true }]);
    expect(node.state.phase).toBe('training');
  });

  test('joins again soon if the coordinator is still starting, also if heads arrive meanwhile', () => {
    const node = driver().training({ sequence: 5, round: 3 }).send({ type: 'connected' });
    for (const jitter of [0, 1]) {
      node.send({ type: 'rejoin-failed', jitter }).head({ sequence: 4, round: 2 });
      expect(dueAt(node.state)! - node.now).toBeLessThanOrEqual(1_000);
      node.now = dueAt(node.state)!;
      node.send({ type: 'tick' });
      expect(node.effects).toEqual([{ type: 'poll', rejoin: true }]);
    }
    node.send({ type: 'rejoined' });
    expect(dueAt(node.state)! - node.now).toBe(HEAD_SILENCE_MS);
    node.now = dueAt(node.state)!;
    node.send({ type: 'tick' });
    expect(node.effects).toEqual([{ type: 'poll', rejoin: false }]);
  });

  test('a head older than its own makes it ask soon, because the coordinator may have an old database', () => {
    const node = driver().training({ sequence: 5, round: 3 }).send({ type: 'tick' });
    for (const ms of [0, 600]) {
      node.now += ms;
      node.head({ sequence: 4, round: 2 });
    }
    expect(dueAt(node.state)).toBe(OLD_HEAD_POLL_MS);
    node.now = OLD_HEAD_POLL_MS;
    node.send({ type: 'tick' });
    expect(node.effects).toEqual([{ type: 'poll', rejoin: false }]);
    expect(dueAt(node.state)! - node.now).toBe(HEAD_SILENCE_MS);
  });

  test('old heads that a peer replays make it ask early only once in 10 s', () => {
    const node = driver().training({ sequence: 5, round: 3 }).send({ type: 'tick' });
    const polls: number[] = [];
    for (; node.now <= 31_000; node.now += 500) {
      node.send({ type: 'tick' });
      if (node.types.includes('poll')) {
        polls.push(node.now);
        // The coordinator answers with its newest head, which the node knows.
        node.head({ sequence: 5, round: 3 });
      }
      node.head({ sequence: 4, round: 2 });
    }
    // The node asks early at 11 s and at 22 s, each time 10 s after the last answer.
    expect(polls).toEqual([1_000, 11_000, 12_000, 22_000, 23_000]);
  });

  test('fetches the last adapter of a finished job', () => {
    const node = driver().join({ sequence: 9, round: 8, checkpoint: 8, phase: 'finished' });
    expect(isDone(node.state)).toBe(false);
    node.send({ type: 'synced', adapter: digest('adapter', 8) });
    expect(isDone(node.state)).toBe(true);
  });
});

describe('failures', () => {
  test('tries to join without end, with growing pauses', () => {
    const node = driver().send({ type: 'start' });
    const pauses = Array.from({ length: 12 }, () => {
      node.send({ type: 'join-failed', reason: 'unreachable', jitter: 0 });
      const pause = dueAt(node.state)! - node.now;
      node.now += pause;
      node.send({ type: 'tick' });
      expect(node.types).toEqual(['join']);
      return pause;
    });
    expect(pauses[0]).toBe(250);
    expect(pauses.at(-1)).toBe(15_000);
  });

  test('a new connection ends the pause before the next attempt', () => {
    const node = driver().send({ type: 'start' });
    for (let i = 0; i < 9; i++) {
      node.send({ type: 'join-failed', reason: '', jitter: 1 });
    }
    node.send({ type: 'connected' });
    expect(dueAt(node.state)).toBe(node.now);
  });

  test('a dead trainer costs the round, not the node', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    node.send({ type: 'train-failed', work: node.state.work!, reason: 'killed' });
    expect(node.state.phase).toBe('awaiting');
    node.head({ sequence: 2, round: 1 });
    expect(node.types).toEqual([]);
    node.head({ sequence: 3, round: 2, checkpoint: 0 });
    expect(node.types).toEqual(['train']);
  });

  test('tries a failed sync again, once at a time', () => {
    const node = driver().join({ sequence: 1, round: 1 });
    node.send({ type: 'sync-failed', adapter: digest('adapter', 0), reason: '', jitter: 0 });
    node.head({ sequence: 2, round: 1 });
    expect(node.types).toEqual([]);
    node.now = dueAt(node.state)!;
    node.send({ type: 'tick' });
    expect(node.types).toContain('sync');
  });
});

describe('updates', () => {
  test('asks for a missing receipt, and submits an update that the coordinator has not seen', () => {
    const node = driver().sent({ sequence: 1, round: 1 });
    node.now = RECEIPT_WAIT_MS;
    node.send({ type: 'tick' });
    expect(node.effects).toContainEqual({ type: 'ask', round: 1, generation: 0 });
    node.send({ type: 'receipt-unknown', round: 1 });
    expect(node.effects).toEqual([{ type: 'submit', round: 1, generation: 0 }]);
    expect(node.state.phase).toBe('publishing');
    node.send({ type: 'receipt', round: 1, code: 'accepted', generation: 0 });
    expect(node.state.phase).toBe('awaiting');
    // The reason names the update, and what the node waits for.
    expect(node.state.reason).toMatch(/\bround 1\b.*coordinator.*merged/);
  });

  test('restores a refused update once', () => {
    const node = driver().sent({ sequence: 1, round: 1 });
    node.send({ type: 'receipt', round: 1, code: 'wrong-round', generation: null });
    expect(node.effects).toEqual([{ type: 'settle', round: 1, outcome: 'restored' }]);
    expect(node.state.phase).toBe('awaiting');
    node.send({ type: 'receipt', round: 1, code: 'wrong-round', generation: null });
    expect(node.effects).toEqual([]);
  });

  test('asks about an accepted update that the checkpoint lacks; an older unasked receipt does not settle it', () => {
    const node = driver().sent({ sequence: 1, round: 1 });
    node.send({ type: 'receipt', round: 1, code: 'accepted', generation: null });
    node.head({ sequence: 2, round: 2 });
    node.send({ type: 'receipt', round: 1, code: 'accepted', generation: null });
    node.send({ type: 'tick' });
    expect(node.effects).toContainEqual({ type: 'ask', round: 1, generation: 1 });
    node.send({ type: 'receipt', round: 1, code: 'left-out', generation: 1 });
    expect(node.effects).toEqual([{ type: 'settle', round: 1, outcome: 'restored' }]);
  });

  test('counts an accepted update of a checkpoint that the node has missed', () => {
    const node = driver().sent({ sequence: 1, round: 1 });
    node.head({ sequence: 5, round: 3 });
    node.send({ type: 'receipt', round: 1, code: 'accepted', generation: 1 });
    expect(node.effects).toEqual([{ type: 'settle', round: 1, outcome: 'counted' }]);
  });

  test('keeps a late update open until no round can take it any more', () => {
    const node = driver().sent({ sequence: 1, round: 1 });
    node.head({ sequence: 2, round: 2 });
    node.send({ type: 'receipt', round: 1, code: 'late', generation: 1 });
    expect(node.effects).toEqual([]);
    expect(node.state.pending).toHaveLength(1);
    node.head({ sequence: 3, round: 3, included: [UPDATE] });
    expect(node.effects[0]).toMatchObject({ type: 'settle', outcome: 'counted' });
  });

  test('sends the same update again after a restart in its round, and trains nothing', () => {
    const pending = [{ round: 1, update: UPDATE, code: null }];
    const node = driver().join({ sequence: 1, round: 1 }, { lastRound: 1, pending });
    node.send({ type: 'synced', adapter: digest('adapter', 0) });
    expect(node.effects).toEqual([{ type: 'publish', round: 1 }]);
    expect(node.state.phase).toBe('publishing');
    node.head({ sequence: 2, round: 1 });
    expect(node.types).toEqual([]);
  });

  test('does not train a round again whose update was settled before a restart', () => {
    const node = driver().join({ sequence: 1, round: 1 }, { lastRound: 1, pending: [] });
    node.send({ type: 'synced', adapter: digest('adapter', 0) });
    expect(node.state.phase).toBe('awaiting');
    expect(node.types).toEqual([]);
  });

  test('sends an update that was stored just before a newer head arrived', () => {
    const node = driver().training({ sequence: 1, round: 1 });
    const work = node.state.work!;
    node.send({ type: 'trained', work }).head({ sequence: 2, round: 2 });
    node.send({ type: 'update-built', work, update: UPDATE });
    expect(node.types).toEqual(['publish']);
    expect(node.state.phase).toBe('syncing');
    expect(node.state.lastRound).toBe(1);
    expect(dueAt(node.state)).toBe(node.now);
  });

  test('stopping submits updates without a receipt, then leaves', () => {
    const node = driver().sent({ sequence: 1, round: 1 }).send({ type: 'stop' });
    expect(node.types).toEqual(['abort', 'submit', 'leave']);
    node.send({ type: 'receipt', round: 1, code: 'not-assigned', generation: 0 });
    expect(node.types).toEqual(['settle']);
    expect(dueAt(node.state)).toBeNull();
  });
});
