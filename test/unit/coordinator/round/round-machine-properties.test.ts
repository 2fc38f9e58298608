import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isOpen, isOver, isRollingBack, needsOperator } from '../../../../coordinator/round/job-phase.ts';
import { isAssignable, type Standing } from '../../../../coordinator/round/plan.ts';
import { dueAt } from '../../../../coordinator/round/round-machine.ts';
import type { Effect, JobState, MachineEvent, PauseCause } from '../../../../coordinator/round/state.ts';
import { Machine, NEW_PEER } from './machines.ts';

const PEERS = ['a', 'b', 'c', 'd', 'e'];

/** Everything that can happen to a coordinator. Results come only while a merge or commit is running. */
type Step =
  | { type: 'event'; event: MachineEvent; afterMs: number }
  | { type: 'deliver'; peer: string; late: number; afterMs: number }
  | { type: 'result'; good: boolean; broken: boolean; afterMs: number }
  | { type: 'restart'; afterMs: number }
  | { type: 'time'; afterMs: number };

const peer = fc.constantFrom(...PEERS);
const standing = fc.constantFrom<Standing>('good', 'good', 'good', 'probation', 'suspended', 'banned');
const reason = fc.constant('because');
const cause = fc.constantFrom<PauseCause>('operator', 'problem', 'disk-full');
const afterMs = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 3_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 90_000 }) },
);
const event: fc.Arbitrary<MachineEvent> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('peer-ready' as const),
      peer,
      speed: fc.integer({ min: 0, max: 500 }),
      shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 3 }),
      standing,
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ peer, standing })
      .map(({ peer, standing }) => ({ type: 'judged' as const, peers: { [peer]: { standing } } })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('peer-gone' as const),
      peer,
      reason: fc.constantFrom('left' as const, 'silent' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('peers-removed' as const), peers: fc.array(peer) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('pause' as const), reason, cause }) },
  { weight: 1, arbitrary: fc.constant({ type: 'resume' as const }) },
  { weight: 1, arbitrary: fc.constant({ type: 'roll-back' as const, to: 0, reason: '' }) },
  { weight: 1, arbitrary: fc.constant({ type: 'released' as const }) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant('event' as const), event, afterMs }) },
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant('deliver' as const),
      peer,
      late: fc.integer({ min: 0, max: 2 }),
      afterMs,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('result' as const),
      good: fc.boolean(),
      broken: fc.boolean(),
      afterMs,
    }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('time' as const), afterMs }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('restart' as const), afterMs }) },
);

/** A machine, its running merge or commit, and the outcome of each round. */
class World {
  readonly machine = new Machine({ count: 3 });
  running: 'merge' | 'commit' | null = null;
  /** Outcome of each round that has one. */
  readonly outcomes = new Map<number, string>();
  readonly opened = new Set<number>();
  #closed: number | null = null;

  apply(step: Step): void {
    const { machine } = this;
    this.advance(step.afterMs);
    if (step.type === 'event') this.feed(step.event);
    if (step.type === 'deliver') {
      const round = machine.state.round - step.late;
      if (round >= 1)
        this.feed({ type: 'update', peer: step.peer, round, ms: 1_000 * (1 + step.late), speed: 50 });
    }
    if (step.type === 'result') this.result(step.good, step.broken);
    if (step.type === 'restart') this.restart();
  }

  /** Kills the coordinator and starts it again with a hold. A merge or commit that was running is lost. */
  restart(): void {
    const { state } = this.machine;
    if (isOver(state)) return;
    const phase = state.phase === 'committing' ? 'validating' : state.phase;
    this.machine.state = { ...state, phase, retryAt: null, gathering: null, isHeld: true };
    this.running = null;
  }

  /** Advances the time and feeds every tick when it is due. */
  advance(ms: number): void {
    const { machine } = this;
    const end = machine.now + ms;
    for (let ticks = 0; ticks < 1_000; ticks++) {
      const at = dueAt(machine.state, machine.now);
      if (at === null || at > end) break;
      machine.now = Math.max(machine.now, at);
      this.feed({ type: 'tick' });
    }
    machine.now = end;
  }

  result(good: boolean, broken: boolean): void {
    const { running } = this;
    if (!running) return;
    this.running = null;
    if (broken) this.feed({ type: 'attempt-failed', reason: 'broken', cause: 'problem' });
    else if (running === 'commit') this.#commit();
    else this.feed(good ? { type: 'merged' } : { type: 'refused', reason: 'worse' });
  }

  feed(event: MachineEvent): void {
    const before = this.machine.state;
    this.machine.feed(event);
    if (before.isHeld && event.type !== 'released') {
      expect(this.machine.effects, 'a held job signs no head and merges nothing').toEqual([]);
      expect(this.machine.state.isHeld).toBe(true);
    }
    for (const effect of this.machine.effects) this.#perform(effect);
    const { state } = this.machine;
    expect(state.round, 'rounds never go back').toBeGreaterThanOrEqual(before.round);
    expect(state.committed, 'checkpoints never go back').toBeGreaterThanOrEqual(before.committed);
    const paused = state.phase === 'paused' && before.phase !== 'paused';
    if (paused) expect(state.pauseCause, 'cause of the pause').toBe(causeOf(event, before));
    const isPausedAgain = before.pauseCause !== null && event.type === 'pause';
    const isReplaced =
      isPausedAgain && !before.isHeld && (before.pauseCause === 'disk-full' || event.cause === 'operator');
    if (isReplaced) expect(state).toMatchObject({ pauseCause: event.cause, current: before.current });
    expect(state.pauseCause !== null, 'only a pause has a cause').toBe(state.phase === 'paused');
    expect(needsOperator(state)).toBe(state.pauseCause === 'problem');
    this.#checkNotStuck();
  }

  #commit(): void {
    const { round } = this.machine.state;
    expect(this.outcomes.has(round), `round ${round} has an outcome already`).toBe(false);
    this.outcomes.set(round, 'checkpoint');
    this.#closed = null;
    this.feed({ type: 'committed' });
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case 'open': {
        expect(this.opened.has(effect.round), `round ${effect.round} opens once`).toBe(false);
        for (const round of this.opened)
          expect(this.outcomes.has(round), `round ${round} is over`).toBe(true);
        this.opened.add(effect.round);
        if (isRollingBack(this.machine.state)) expect(effect.assignments).toEqual([]);
        else expect(effect.assignments.length).toBeGreaterThanOrEqual(this.machine.state.settings.minPeers);
        break;
      }
      case 'close':
        expect(this.#closed, 'one closed round at a time').toBeNull();
        this.#closed = effect.round;
        break;
      case 'merge':
      case 'commit':
        expect(this.running, 'one step at a time').toBeNull();
        expect(this.#closed, 'only a closed round is merged').toBe(effect.round);
        this.running = effect.type;
        break;
      case 'discard':
        expect(this.outcomes.has(effect.round), `round ${effect.round} has an outcome already`).toBe(false);
        this.outcomes.set(effect.round, 'null');
        this.#closed = null;
        break;
      case 'announce':
        break;
    }
  }

  /** Checks that a timer is set, a step is running, nodes are missing, or nothing is left to do. */
  #checkNotStuck(): void {
    const { state, now } = this.machine;
    const assignable = Object.values(state.present).filter(isAssignable);
    const waitsForPeers = state.phase === 'waiting' && assignable.length < state.settings.minPeers;
    const resting = state.phase === 'paused' || isOver(state);
    const moves =
      dueAt(state, now) !== null || this.running !== null || waitsForPeers || resting || state.isHeld;
    expect(moves, `stuck in ${state.phase}`).toBe(true);
  }
}

/** Returns the cause of the pause that begins with this event. */
function causeOf(event: MachineEvent, { ending }: JobState): PauseCause {
  if (event.type === 'pause') return event.cause;
  // The job pauses itself after the last failed attempt, even if another pause waits for its round.
  if (event.type === 'attempt-failed' || ending?.phase !== 'paused') return 'problem';
  return ending.cause;
}

test('every round has one outcome and the machine is never stuck, whatever happens', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const world = new World();
      for (const one of steps) world.apply(one);
    }),
    { numRuns: 600 },
  );
});

test('the job finishes once nodes deliver and merges pass, whatever happened before', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const world = new World();
      for (const one of steps) world.apply(one);
      const { machine } = world;
      world.feed({ type: 'released' });
      for (const name of PEERS) world.feed({ type: 'peer-ready', peer: name, ...NEW_PEER, speed: 100 });
      for (let i = 0; i < 200 && !isOver(machine.state); i++) {
        if (machine.state.phase === 'paused') world.feed({ type: 'resume' });
        if (isOpen(machine.state)) {
          const { number, assigned } = machine.state.current!;
          for (const name of assigned) {
            if (isOpen(machine.state))
              world.feed({ type: 'update', peer: name, round: number, ms: 1_000, speed: 100 });
          }
        }
        world.result(true, false);
        world.advance(5_000);
      }
      expect(machine.state.phase).toBe('finished');
      expect(machine.state.committed).toBe(3);
      expect([...world.outcomes.values()].filter((outcome) => outcome === 'checkpoint')).toHaveLength(3);
    }),
    { numRuns: 400 },
  );
});
