import { expect, test } from 'vitest';
import { duringHold } from '../../../../coordinator/record/hold.ts';
import type { Effect, MachineEvent } from '../../../../coordinator/round/state.ts';

const announce: Effect = { type: 'announce', phase: 'paused', reason: '' };
const close: Effect = { type: 'close', round: 3, cause: 'complete' };
const update: MachineEvent = { type: 'update', peer: 'a', round: 3, ms: 1, speed: 1 };
const pause = (cause: 'operator' | 'disk-full'): MachineEvent => ({ type: 'pause', reason: '', cause });

test.each<[string, MachineEvent, readonly Effect[], string]>([
  ['postpones all changes of presence', { type: 'peer-gone', peer: 'a', reason: 'left' }, [], 'postpone'],
  ['records updates', update, [close], 'apply'],
  ['refuses an update that would sign a head', update, [announce], 'refuse'],
  ['ignores a full disk', pause('disk-full'), [announce], 'ignore'],
  ['ends at an order of the operator', pause('operator'), [announce], 'release'],
  ['records an order that signs no head yet', pause('operator'), [], 'apply'],
])('a held job %s', (_, event, effects, expected) => {
  expect(duringHold(event, effects)).toBe(expected);
});
