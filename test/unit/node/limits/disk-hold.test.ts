import { beforeEach, expect, it } from 'vitest';
import { SwarmError } from '../../../../common/errors.ts';
import { DiskHold } from '../../../../node/limits/disk-hold.ts';
import type { Hold } from '../../../../protocol/api/node.ts';
import { VirtualClock } from '../../../utils/virtual/virtual-clock.ts';

const FULL = new SwarmError('STORE_FULL', 'the disk is full', {});

let clock: VirtualClock;
let holds: (Hold | null)[];
/** The checks of the disk that have begun. The test ends a check by settling its promise. */
let answers: PromiseWithResolvers<void>[];
let hold: DiskHold;

beforeEach(() => {
  clock = new VirtualClock(0);
  holds = [];
  answers = [];
  const check = () => {
    const answer = Promise.withResolvers<void>();
    answers.push(answer);
    return answer.promise;
  };
  hold = new DiskHold({ clock, check, setHold: (one) => holds.push(one) });
});

const pass = (ms: number) => clock.run(() => false, ms);

it('ends when a later check finds space on the disk', async () => {
  hold.note(FULL);
  await pass(10_000);
  answers[0]!.reject(FULL);
  await pass(10_000);
  answers[1]!.resolve();
  await pass(60_000);
  expect(holds).toEqual([{ reason: 'disk-full', detail: '' }, null]);
  expect(answers).toHaveLength(2);
});

it.each(['resolve', 'reject'] as const)(
  'a check that runs during the stop has no effect: %s',
  async (end) => {
    hold.note(FULL);
    await pass(10_000);
    expect(answers).toHaveLength(1);
    hold.stop();
    answers[0]![end](undefined);
    await pass(60_000);
    expect(answers).toHaveLength(1);
    expect(holds).toEqual([{ reason: 'disk-full', detail: '' }]);
  },
);
