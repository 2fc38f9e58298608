import { expect, test } from 'vitest';
import { pauseText } from '../../../../common/text.ts';
import { MERGE_ATTEMPTS } from '../../../../coordinator/round/round-machine.ts';
import { Machine } from './machines.ts';

/** What people hear about a pause while a closed round is kept. */
const ANNOUNCED = {
  type: 'announce',
  phase: 'paused',
  reason: expect.stringMatching(/^lunch\b.*\bround 1\b/),
};

/** Fails all attempts to write the closed round, because the disk is full. */
function fillDisk(machine: Machine): Machine {
  for (let i = 0; i < MERGE_ATTEMPTS; i++)
    machine.feed({ type: 'attempt-failed', reason: 'full', cause: 'disk-full' }).tick(60_000);
  return machine;
}

test.each(['operator', 'problem'] as const)('%s replaces a pause for a full disk', (cause) => {
  const machine = fillDisk(Machine.validating());
  const { current } = machine.state;
  expect(machine.state).toMatchObject({ phase: 'paused', pauseCause: 'disk-full', round: 1 });
  machine.feed({ type: 'pause', reason: 'lunch', cause });
  expect(machine.effects).toEqual([ANNOUNCED]);
  expect(machine.state).toMatchObject({ phase: 'paused', pauseCause: cause, reason: 'lunch', current });
  for (const other of ['disk-full', 'problem'] as const)
    machine.feed({ type: 'pause', reason: 'other', cause: other });
  machine.feed({ type: 'pause', reason: '', cause });
  expect(machine.state).toMatchObject({ pauseCause: cause, reason: 'lunch' });
  machine.feed({ type: 'resume' });
  expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
});

test('a pause of the operator replaces a pause because of a problem, and the closed round stays', () => {
  const machine = fillDisk(Machine.validating());
  machine.feed({ type: 'pause', reason: 'the loss', cause: 'problem' });
  const { current } = machine.state;
  machine.feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
  expect(machine.effects).toEqual([ANNOUNCED]);
  expect(machine.state).toMatchObject({ pauseCause: 'operator', reason: 'lunch', current });
});

test('a new reason of the operator replaces the reason of the pause', () => {
  const machine = Machine.training().feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
  machine.feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
  expect(machine.effects).toEqual([]);
  machine.feed({ type: 'pause', reason: 'repairs', cause: 'operator' });
  expect(machine.effects).toEqual([{ type: 'announce', phase: 'paused', reason: 'repairs' }]);
  expect(machine.state).toMatchObject({ phase: 'paused', pauseCause: 'operator', reason: 'repairs' });
});

test('a pause that waits for a round takes effect if the disk is too full for the round', () => {
  const machine = Machine.validating().feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
  expect(fillDisk(machine).state).toMatchObject({ phase: 'paused', pauseCause: 'operator', reason: 'lunch' });
  machine.feed({ type: 'resume' });
  expect(machine.effects).toEqual([{ type: 'merge', round: 1 }]);
});

test('a pause without a closed round is announced with its reason only, and after the round that has ended', () => {
  const machine = Machine.training().feed({ type: 'pause', reason: 'lunch', cause: 'operator' });
  expect(machine.effects).toContainEqual({ type: 'announce', phase: 'paused', reason: 'lunch' });
  expect(pauseText(machine.state.round)).toMatch(/\bpaused\b.*\b1$/);
});
