import { expect, test } from 'vitest';
import { MachineRunner } from '../../../../node/jobs/machine-runner.ts';
import { initialState, type NodeEffect } from '../../../../node/machine/state.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const SELF = 'self';

test('an effect that throws reaches the caller and does not stop the machine', () => {
  const clock = new ManualClock();
  const done: NodeEffect['type'][] = [];
  const failure = new Error('a disk that is full');
  let broken = true;
  const runner = new MachineRunner(
    {
      initial: initialState(SELF),
      perform: ({ type }) => {
        if (broken) throw failure;
        done.push(type);
      },
      onChange: () => {},
    },
    { clock },
  );
  expect(() => runner.dispatch({ type: 'start' })).toThrow(failure);
  broken = false;
  runner.dispatch({ type: 'join-failed', reason: 'unreachable', jitter: 0 });
  expect(runner.state).toMatchObject({ phase: 'joining', failures: 1 });
  // The machine has scheduled its next tick.
  clock.advance(clock.due()[0]!);
  expect(done).toEqual(['join']);
  runner.end();
  expect(clock.due()).toEqual([]);
});

test('an event that an effect dispatches is reduced after all effects of the current event', () => {
  const order: string[] = [];
  const runner = new MachineRunner(
    {
      initial: initialState(SELF),
      perform: ({ type }) => {
        order.push(`begin ${type}`);
        if (type === 'join') runner.dispatch({ type: 'stop' });
        order.push(`end ${type}`);
      },
      onChange: (state) => order.push(state.phase),
    },
    { clock: new ManualClock() },
  );
  runner.dispatch({ type: 'start' });
  expect(order).toEqual([
    'begin join',
    'end join',
    'begin abort',
    'end abort',
    'begin leave',
    'end leave',
    'leaving',
  ]);
});
