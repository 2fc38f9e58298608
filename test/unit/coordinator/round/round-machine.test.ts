import { describe, expect, test } from 'vitest';
import { ABANDONED_MS } from '../../../../coordinator/round/close.ts';
import { REFUSALS_IN_A_ROW } from '../../../../coordinator/round/job-phase.ts';
import { GATHER_MOST_MS, GATHER_MS } from '../../../../coordinator/round/round-cycle.ts';
import { dueAt, LOST_BLOB_ATTEMPTS, MERGE_ATTEMPTS } from '../../../../coordinator/round/round-machine.ts';
import { Machine } from './machines.ts';

describe('waiting', () => {
  test('stays while fewer than minPeers are ready', () => {
    const machine = new Machine().join('a').tick(60_000);
    expect(machine.state.phase).toBe('waiting');
    expect(dueAt(machine.state, machine.now)).toBeNull();
  });

  test('waiting to training, once newcomers have gathered', () => {
    const machine = new Machine().join('a', 'b');
    expect(dueAt(machine.state, machine.now)).toBe(machine.now + GATHER_MS);
    machine.tick(GATHER_MS - 1);
    expect(machine.state.phase).toBe('waiting');
    machine.join('c').tick(GATHER_MS - 1);
    expect(machine.state.phase).toBe('waiting');
    machine.tick(1);
    expect(machine.state.phase).toBe('training');
    expect(machine.state.current?.assigned).toEqual(['a', 'b', 'c']);
    expect(machine.types).toEqual(['open']);
  });

  test('a stream of newcomers does not keep a round from opening', () => {
    const machine = new Machine().join('a', 'b');
    const began = machine.now;
    for (let i = 0; machine.state.phase === 'waiting'; i++) machine.tick(1_000).join(`peer-${i}`);
    expect(machine.now - began).toBe(GATHER_MOST_MS);
  });

  test('starts again when a node leaves before the round opens', () => {
    const machine = new Machine().join('a', 'b').feed({ type: 'peer-gone', peer: 'b', reason: 'left' });
    expect(machine.tick(GATHER_MS).state.phase).toBe('waiting');
  });
});

describe('standing', () => {
  const suspended = (...peers: string[]) =>
    ({
      type: 'judged',
      peers: Object.fromEntries(peers.map((peer) => [peer, { standing: 'suspended' }] as const)),
    }) as const;

  test('a suspended node does not count towards minPeers, and gets no work', () => {
    const machine = new Machine().join('a', 'b').feed(suspended('b')).tick(60_000);
    expect(machine.state.phase).toBe('waiting');
    machine.join('c').tick(GATHER_MS);
    expect(machine.state.current?.assigned).toEqual(['a', 'c']);
  });

  test('a node that is suspended while it trains may still deliver, and is left out of the next round', () => {
    const machine = Machine.training(['a', 'b', 'c']).feed(suspended('c'));
    expect(machine.state.phase).toBe('training');
    machine.update('a').update('b').update('c').feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current?.assigned).toEqual(['a', 'b']);
  });

  test('shares that change before a round opens decide its steps; absent peers are ignored', () => {
    const machine = Machine.training(['a', 'b']).update('a').update('b');
    const shares = { a: { shares: [1, 1, 1] }, b: { shares: [0, 0, 0] }, constructor: { shares: [1] } };
    machine.feed({ type: 'judged', peers: shares }).feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.effects).toContainEqual(
      expect.objectContaining({
        type: 'open',
        assignments: [
          expect.objectContaining({ peer: 'a', steps: 12 }),
          expect.objectContaining({ peer: 'b', steps: 4 }),
        ],
      }),
    );
    expect(Object.keys(machine.state.present)).toEqual(['a', 'b']);
  });
});

describe('training and collecting', () => {
  test('training to collecting with the first update', () => {
    const machine = Machine.training().update('a');
    expect(machine.state.phase).toBe('collecting');
    expect(machine.types).toEqual([]);
  });

  test('collecting to validating when every node has delivered', () => {
    const machine = Machine.training().update('a').update('b').update('c');
    expect(machine.state.phase).toBe('validating');
    expect(machine.effects).toEqual([
      { type: 'close', round: 1, cause: 'complete' },
      { type: 'merge', round: 1 },
    ]);
  });

  test('counts an update once, and only of an assigned node', () => {
    const machine = Machine.training().update('a').update('a').update('stranger');
    expect(machine.state.current?.delivered).toEqual(['a']);
  });

  test('does not wait for a node that left', () => {
    const machine = Machine.training().update('a').update('b');
    machine.feed({ type: 'peer-gone', peer: 'c', reason: 'left' });
    expect(machine.state.phase).toBe('validating');
  });

  test('does not wait for a silent node', () => {
    const machine = Machine.training().update('a').update('b');
    machine.feed({ type: 'peer-gone', peer: 'c', reason: 'silent' });
    expect(machine.state.phase).toBe('validating');
  });

  test('drops the update of a node that was removed, and does not wait for the node', () => {
    const machine = Machine.training().update('a').update('b');
    machine.feed({ type: 'peers-removed', peers: ['a'] });
    expect(machine.state).toMatchObject({
      phase: 'collecting',
      current: { delivered: ['b'], excluded: ['a'] },
    });
    expect(Object.keys(machine.state.present)).toEqual(['b', 'c']);
    machine.update('c');
    expect(machine.state.phase).toBe('validating');
    // Both remaining updates have arrived, so the round is closed and its merge has begun.
    machine.feed({ type: 'peers-removed', peers: ['b'] });
    expect(machine.state.current?.delivered).toEqual(['b', 'c']);
  });

  test('waits again for a node that comes back', () => {
    const machine = Machine.training().update('a');
    machine.feed({ type: 'peer-gone', peer: 'c', reason: 'left' }).join('c').update('b');
    expect(machine.state.phase).toBe('collecting');
  });

  test('counts a node that takes a hold as absent until the end of the round', () => {
    const machine = Machine.training().update('a').update('b');
    machine.feed({ type: 'peer-gone', peer: 'c', reason: 'held' });
    expect(machine.state.phase).toBe('validating');
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current?.assigned).toEqual(['a', 'b']);

    // If all nodes take a hold, there are too few updates. The round then waits as it does for silent nodes, and ends as a
    // null round.
    const short = Machine.training(['a', 'b']).feed({ type: 'peer-gone', peer: 'a', reason: 'held' });
    short.feed({ type: 'peer-gone', peer: 'b', reason: 'held' });
    expect(short.state.round).toBe(1);
    short.tick(ABANDONED_MS);
    expect(short.state.round).toBe(2);
  });

  test('does not wait again for a node whose hold ends, but plans with it in the next round', () => {
    const machine = Machine.training();
    machine.feed({ type: 'peer-gone', peer: 'c', reason: 'held' }).join('c');
    machine.update('a').update('b');
    expect(machine.state.phase).toBe('validating');
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current).toMatchObject({ assigned: ['a', 'b', 'c'], held: [] });
  });

  test('assigns late joiners in the next round', () => {
    const machine = Machine.training(['a', 'b']).join('c');
    expect(machine.state.current?.assigned).toEqual(['a', 'b']);
    machine.update('a').update('b').feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current?.assigned).toEqual(['a', 'b', 'c']);
  });

  test('first round: a quorum waits three times its own arrivals for the rest', () => {
    const machine = Machine.training();
    machine.now += 4_000;
    machine.update('a').update('b');
    expect(dueAt(machine.state, machine.now)).toBe(machine.state.current!.openedAt + 12_000);
    machine.tick(7_999);
    expect(machine.state.phase).toBe('collecting');
    machine.tick(1);
    expect(machine.effects[0]).toEqual({ type: 'close', round: 1, cause: 'quorum' });
  });

  test('measured rounds: a quorum waits 1.2 times the 75th percentile, the deadline is twice that', () => {
    const machine = Machine.training(['a', 'b', 'c']);
    machine.now += 10_000;
    machine.update('a').update('b').update('c').feed({ type: 'merged' }).feed({ type: 'committed' });
    const { openedAt, deadlineMs } = machine.state.current!;
    expect(deadlineMs).toBe(24_000);
    machine.update('a', { ms: 100 }).update('b', { ms: 100 });
    expect(dueAt(machine.state, machine.now)).toBe(openedAt + 12_000);
    expect(machine.tick(12_000).effects[0]).toMatchObject({ type: 'close', cause: 'quorum' });
  });

  test('a crowd that delivers at once does not end a round before proven nodes deliver', () => {
    const honest = ['a', 'b', 'c'];
    const crowd = Array.from({ length: 12 }, (_, i) => `liar-${i}`);
    const machine = Machine.training([...honest, ...crowd], { count: 9 });
    machine.feed({
      type: 'judged',
      peers: Object.fromEntries(honest.map((peer) => [peer, { shares: [1, 1, 1] }])),
    });
    for (const peer of crowd) machine.update(peer, { ms: 1 });
    for (const peer of honest) machine.update(peer, { ms: 10_000 });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    for (const peer of crowd) machine.update(peer, { ms: 1 });
    expect(machine.state.phase).toBe('collecting');
    // The crowd does not count for the quorum. Only the deadline could end the round now.
    expect(dueAt(machine.state, machine.now)).toBe(machine.state.current!.openedAt + 24_000);
    for (const peer of honest) machine.update(peer, { ms: 9_000 });
    expect(machine.effects[0]).toMatchObject({ type: 'close', round: 2, cause: 'complete' });
  });

  test('a crowd that never delivers holds up a round no longer than the patience', () => {
    const honest = ['a', 'b', 'c'];
    const machine = Machine.training(honest, { count: 9 }).feed({
      type: 'judged',
      peers: Object.fromEntries(honest.map((peer) => [peer, { shares: [1, 1, 1] }])),
    });
    machine.join(...Array.from({ length: 12 }, (_, i) => `liar-${i}`));
    for (const peer of honest) machine.update(peer, { ms: 10_000 });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current!.assigned).toHaveLength(15);
    for (const peer of honest) machine.update(peer, { ms: 10_000 });
    expect(dueAt(machine.state, machine.now)).toBe(machine.state.current!.openedAt + 12_000);
    expect(machine.tick(12_000).effects[0]).toMatchObject({ type: 'close', cause: 'quorum' });
  });

  test('a crowd that delivers at once is no quorum beside believed nodes', () => {
    const machine = Machine.training(['a', 'b', 'c', 'd'], { count: 9 });
    // Only a is proven, and delivers at once too. The others have earned belief with their first updates.
    const shares = { a: { shares: [1, 1, 1] }, b: { shares: [1] }, c: { shares: [1] }, d: { shares: [1] } };
    machine.feed({ type: 'judged', peers: shares }).join('liar-1', 'liar-2', 'liar-3');
    for (const peer of ['a', 'b', 'c', 'd']) machine.update(peer, { ms: peer === 'a' ? 1 : 10_000 });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    for (const peer of ['a', 'liar-1', 'liar-2', 'liar-3']) machine.update(peer, { ms: 1 });
    expect(machine.tick(2_000).state.phase).toBe('collecting');
    machine.update('b', { ms: 10_000 });
    expect(machine.effects[0]).toMatchObject({ type: 'close', cause: 'quorum' });
  });

  test('the deadline closes a round that has no quorum but minPeers', () => {
    const machine = Machine.training(['a', 'b', 'c', 'd', 'e'], { quorum: 1 });
    machine.update('a').update('b');
    machine.tick(60_000 - 1);
    expect(machine.state.phase).toBe('collecting');
    expect(machine.tick(1).effects[0]).toMatchObject({ type: 'close', cause: 'deadline' });
  });

  test('training to a null round at the deadline with too few updates, then to the next round', () => {
    const machine = Machine.training().update('a').tick(60_000);
    expect(machine.types).toEqual(['discard', 'open']);
    expect(machine.effects[0]).toMatchObject({ round: 1, tried: false });
    expect(machine.state).toMatchObject({ phase: 'training', round: 2, committed: 0 });
  });

  test('doubles the time after each round with too few updates, until one is committed', () => {
    const machine = Machine.training(['a', 'b', 'c']);
    const commit = () =>
      machine.update('a').update('b').update('c').feed({ type: 'merged' }).feed({ type: 'committed' });
    machine.now += 10_000;
    commit();
    expect(machine.state.current!.deadlineMs).toBe(24_000);
    machine.tick(24_000);
    expect(machine.state.current).toMatchObject({ number: 3, deadlineMs: 48_000 });
    machine.now += 10_000;
    commit();
    expect(machine.state.current).toMatchObject({ number: 4, deadlineMs: 24_000 });
  });

  test('does not wait for a node that lost its work, and assigns it in the next round', () => {
    const machine = Machine.training(['a', 'b', 'c']);
    machine.update('a').update('b').feed({ type: 'gave-up', peer: 'c', round: 1 });
    expect(machine.effects[0]).toEqual({ type: 'close', round: 1, cause: 'complete' });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.current!.assigned).toContain('c');
  });

  test('ignores a report of lost work of an earlier round', () => {
    const machine = Machine.training(['a', 'b', 'c']).update('a').update('b');
    expect(machine.feed({ type: 'gave-up', peer: 'c', round: 2 }).state.phase).toBe('collecting');
  });

  test('ends as a null round at once when all nodes leave, and the job waits', () => {
    const machine = Machine.training(['a', 'b']);
    machine.feed({ type: 'peer-gone', peer: 'a', reason: 'left' });
    machine.feed({ type: 'peer-gone', peer: 'b', reason: 'left' });
    expect(machine.types).toEqual(['discard', 'announce']);
    expect(machine.state).toMatchObject({ phase: 'waiting', round: 2, current: null });
  });

  test('waits for one node to come back when all have fallen silent', () => {
    const machine = Machine.training(['a', 'b']);
    machine.feed({ type: 'peer-gone', peer: 'a', reason: 'silent' });
    machine.feed({ type: 'peer-gone', peer: 'b', reason: 'silent' });
    expect(machine.tick(ABANDONED_MS - 1).state.phase).toBe('training');
    const back = new Machine({}, machine.state);
    back.now = machine.now;
    back.join('a').tick(ABANDONED_MS);
    expect(back.state.phase).toBe('training');
    expect(machine.tick(1).state.phase).toBe('waiting');
  });

  test.each(['left', 'silent'] as const)('says how many nodes are missing, one or several: %s', (reason) => {
    for (const peers of [['a'], ['a', 'b']]) {
      const machine = new Machine({ minPeers: 1 }).join(...peers).tick(60_000);
      for (const peer of peers) machine.feed({ type: 'peer-gone', peer, reason });
      if (reason === 'silent') machine.tick(ABANDONED_MS);
      expect(machine.effects).toContainEqual({
        type: 'discard',
        round: 1,
        reason: expect.stringMatching(peers.length === 1 ? /\b1 node\b/ : /\b2 nodes\b/),
        tried: false,
      });
    }
  });

  test('records the arrival time of a late update, which does not count as a delivery', () => {
    const machine = Machine.training().update('a').update('b').tick(60_000);
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.round).toBe(2);
    machine.update('c', { round: 1, ms: 70_000 });
    expect(machine.state.current?.delivered).toEqual([]);
    expect(machine.state.arrivals).toContainEqual({ peer: 'c', round: 1, ms: 70_000 });
  });
});

describe('validating and committing', () => {
  test('validating to committing when the merge passed', () => {
    const machine = Machine.validating().feed({ type: 'merged' });
    expect(machine.state.phase).toBe('committing');
    expect(machine.effects).toEqual([{ type: 'commit', round: 1 }]);
  });

  test('validating to a null round when nothing passes the gate', () => {
    const machine = Machine.validating().feed({ type: 'refused', reason: 'worse' });
    expect(machine.effects[0]).toEqual({ type: 'discard', round: 1, reason: 'worse', tried: true });
    expect(machine.state).toMatchObject({ phase: 'training', round: 2, refusals: 1 });
  });

  test('committing to training with the nodes present', () => {
    const machine = Machine.validating().feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'training', round: 2, committed: 1 });
    expect(machine.types).toEqual(['open']);
  });

  test('committing to waiting when too few nodes are present', () => {
    const machine = Machine.validating().feed({ type: 'merged' });
    machine.feed({ type: 'peer-gone', peer: 'a', reason: 'silent' }).feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'waiting', round: 2 });
    expect(machine.effects).toEqual([expect.objectContaining({ type: 'announce', phase: 'waiting' })]);
  });

  test('committing to finished after the last checkpoint', () => {
    const machine = Machine.validating(['a', 'b'], { count: 1 })
      .feed({ type: 'merged' })
      .feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'finished', round: 1, committed: 1 });
    expect(machine.join('c').tick(60_000).state.phase).toBe('finished');
  });

  test('a null round does not count towards the checkpoints', () => {
    const machine = Machine.validating(['a', 'b'], { count: 1 }).feed({ type: 'refused', reason: 'worse' });
    expect(machine.state.phase).toBe('training');
  });

  test('validating to paused after too many refusals in a row', () => {
    const machine = Machine.validating();
    for (let i = 1; i < REFUSALS_IN_A_ROW; i++) {
      machine.feed({ type: 'refused', reason: 'worse' }).update('a').update('b');
    }
    expect(machine.state.phase).toBe('validating');
    machine.feed({ type: 'refused', reason: 'worse' });
    expect(machine.state.phase).toBe('paused');
    expect(machine.feed({ type: 'resume' }).state.phase).toBe('training');
  });

  test('retries a failed merge with growing delays, then pauses with the closed round', () => {
    const machine = Machine.validating();
    for (let attempt = 1; attempt < MERGE_ATTEMPTS; attempt++) {
      machine.feed({ type: 'attempt-failed', reason: 'out of memory', cause: 'problem' });
      expect(machine.state.phase).toBe('validating');
      machine.tick(dueAt(machine.state, machine.now)! - machine.now);
      expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
    }
    machine.feed({ type: 'attempt-failed', reason: 'out of memory', cause: 'problem' });
    expect(machine.state).toMatchObject({ phase: 'paused', reason: 'out of memory', round: 1 });
    machine.feed({ type: 'resume' });
    expect(machine.state.phase).toBe('validating');
    expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
  });

  describe('while a blob is lost', () => {
    const lost = { type: 'attempt-failed', reason: 'lost', cause: 'problem', mayRecover: true } as const;

    /** Lets attempts fail, and checks that each further attempt begins at most a minute later. */
    function fail(machine: Machine, attempts: number): void {
      for (let attempt = 1; attempt <= attempts; attempt++) {
        machine.feed(lost);
        expect(machine.state).toMatchObject({ phase: 'validating', reason: 'lost' });
        const delayMs = dueAt(machine.state, machine.now)! - machine.now;
        expect(delayMs).toBe(Math.min(60_000, 2_000 * 2 ** (attempt - 1)));
        machine.tick(delayMs);
        expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
      }
    }

    test('tries again at least once a minute, until the operator stops the job', () => {
      const machine = Machine.validating();
      fail(machine, 10);
      machine.feed({ type: 'stop', reason: 'enough' }).feed(lost);
      expect(machine.state).toMatchObject({ phase: 'finished', reason: 'enough' });
    });

    test('lets an order of the operator wait for few attempts, whatever the cause of each failure is', () => {
      const other = { type: 'attempt-failed', reason: 'out of memory', cause: 'problem' } as const;
      const machine = Machine.validating().feed({ type: 'stop', reason: 'enough' });
      for (const failure of [lost, other]) {
        machine.feed(failure);
        expect(machine.state.phase).toBe('validating');
        machine.tick(dueAt(machine.state, machine.now)! - machine.now);
      }
      expect(machine.feed(lost).state.phase).toBe('finished');
    });

    test.each([
      { type: 'stop', reason: '' },
      { type: 'pause', reason: '', cause: 'operator' },
      { type: 'roll-back', to: 0, reason: '' },
    ] as const)('tries once more when the operator orders $type, and then carries it out', (order) => {
      const machine = Machine.validating();
      fail(machine, 10);
      machine.feed(lost).feed(order);
      expect(dueAt(machine.state, machine.now)).toBe(machine.now);
      machine.tick(0);
      expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
      machine.feed(lost);
      const state = {
        stop: { phase: 'finished' },
        pause: { phase: 'paused', round: 1 },
        'roll-back': { phase: 'validating', round: 2, current: { assigned: [] } },
      }[order.type];
      expect(machine.state).toMatchObject(state);
    });

    test('another failure gets its usual attempts, and does not end those for the blob', () => {
      const machine = Machine.validating();
      const other = { type: 'attempt-failed', reason: 'out of memory', cause: 'problem' } as const;
      fail(machine, 10);
      for (let attempt = 1; attempt < MERGE_ATTEMPTS; attempt++) {
        machine.feed(other);
        expect(machine.state.phase).toBe('validating');
        const delayMs = dueAt(machine.state, machine.now)! - machine.now;
        expect(delayMs).toBe(2_000 * 2 ** (attempt - 1));
        machine.tick(delayMs).feed(lost);
        expect(machine.state.phase).toBe('validating');
        machine.tick(60_000);
      }
      machine.feed(other);
      expect(machine.state).toMatchObject({ phase: 'paused', reason: 'out of memory', round: 1 });
    });

    test('pauses with the closed round after many attempts, and a resume begins as many attempts', () => {
      const machine = Machine.validating();
      for (let pauses = 1; pauses <= 2; pauses++) {
        fail(machine, LOST_BLOB_ATTEMPTS - 1);
        machine.feed(lost);
        expect(machine.state).toMatchObject({ phase: 'paused', pauseCause: 'problem', round: 1 });
        expect(machine.state.reason).toMatch(/resume.*lost/);
        expect(machine.effects).toEqual([
          { type: 'announce', phase: 'paused', reason: expect.stringContaining(machine.state.reason) },
        ]);
        expect(machine.feed({ type: 'resume' }).effects).toEqual([{ type: 'merge', round: 1 }]);
      }
    });
  });

  test('merges again after a failed commit', () => {
    const machine = Machine.validating()
      .feed({ type: 'merged' })
      .feed({ type: 'attempt-failed', reason: 'disk full', cause: 'problem' });
    machine.tick(60_000);
    expect(machine.state.phase).toBe('validating');
    expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
  });
});

describe('a hold', () => {
  const held = ({ state, now }: Machine): Machine => {
    const machine = new Machine({}, { ...state, isHeld: true });
    machine.now = now;
    return machine;
  };

  test('keeps a round open that everyone has delivered for, and its end closes the round', () => {
    const machine = held(Machine.training()).update('a').update('b').update('c').tick(120_000);
    expect(machine.state.phase).toBe('collecting');
    expect(machine.feed({ type: 'released' }).types).toEqual(['close', 'merge']);
  });

  test('postpones the merge of a closed round', () => {
    const machine = held(Machine.validating()).tick(120_000);
    expect(machine.feed({ type: 'released' }).types).toEqual(['merge']);
    expect(machine.feed({ type: 'released' }).types).toEqual([]);
  });

  test('postpones the null round that a removal causes', () => {
    const machine = held(Machine.training(['a', 'b'])).update('a');
    machine.feed({ type: 'peers-removed', peers: ['b'] });
    expect(machine.state).toMatchObject({ phase: 'collecting', current: { excluded: ['b'] } });
    expect(machine.feed({ type: 'released' }).types).toEqual(['discard', 'announce']);
  });

  test('opens no round when enough nodes are present', () => {
    const machine = held(new Machine()).join('a', 'b').tick(60_000);
    expect(machine.state.phase).toBe('waiting');
    expect(machine.feed({ type: 'released' }).types).toEqual(['open']);
  });

  test('ignores a pause', () => {
    const machine = held(Machine.training()).feed({ type: 'pause', reason: '', cause: 'disk-full' });
    expect(machine.state.phase).toBe('training');
  });
});

describe('operator', () => {
  test('waiting to paused and back', () => {
    const machine = new Machine().join('a').feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
    expect(machine.state).toMatchObject({ phase: 'paused', reason: 'lunch' });
    expect(machine.join('b').tick(60_000).state.phase).toBe('paused');
    expect(machine.feed({ type: 'resume' }).state.phase).toBe('training');
  });

  test('collecting to paused merges what has arrived first', () => {
    const machine = Machine.training()
      .update('a')
      .update('b')
      .feed({ type: 'pause', reason: '', cause: 'operator' });
    expect(machine.effects[0]).toEqual({ type: 'close', round: 1, cause: 'operator' });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'paused', round: 2, committed: 1 });
  });

  test('training to paused with too few updates is a null round', () => {
    const machine = Machine.training().update('a').feed({ type: 'pause', reason: '', cause: 'operator' });
    expect(machine.types).toEqual(['discard', 'announce']);
    expect(machine.state).toMatchObject({ phase: 'paused', round: 2 });
  });

  test('carries out a pause after validation, unless a resume cancels it', () => {
    const machine = Machine.validating().feed({ type: 'pause', reason: '', cause: 'operator' });
    expect(machine.state.phase).toBe('validating');
    machine.feed({ type: 'resume' }).feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state.phase).toBe('training');
  });

  test('collecting to finished by a stop, after the merge', () => {
    const machine = Machine.validating().feed({ type: 'stop', reason: 'enough' });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'finished', reason: 'enough', round: 1 });
  });

  test('carries out a stop after validation, whatever follows it', () => {
    const machine = Machine.validating().feed({ type: 'stop', reason: 'enough' });
    machine.feed({ type: 'resume' }).feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
    machine.feed({ type: 'merged' }).feed({ type: 'committed' });
    expect(machine.state).toMatchObject({ phase: 'finished', reason: 'enough' });
  });

  test('paused with a closed round to finished is a null round', () => {
    const machine = Machine.validating();
    for (let i = 0; i < MERGE_ATTEMPTS; i++)
      machine.feed({ type: 'attempt-failed', reason: 'broken', cause: 'problem' }).tick(60_000);
    machine.feed({ type: 'stop', reason: '' });
    expect(machine.types).toEqual(['discard', 'announce']);
    expect(machine.state.phase).toBe('finished');
  });
});
