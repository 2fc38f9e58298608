import { expect, it } from 'vitest';
import { Teardown } from '../../../common/teardown.ts';
import { silentLogger } from '../../../monitor/logs/log.ts';
import { VirtualClock } from '../../utils/virtual/virtual-clock.ts';

function setUp() {
  const clock = new VirtualClock(0);
  const calls: string[] = [];
  const step = (name: string) => (): void => void calls.push(name);
  return { clock, calls, step, teardown: new Teardown({ clock, log: silentLogger }) };
}

it('runs each step once, in reverse order, even if one fails', async () => {
  const { clock, calls, step, teardown } = setUp();
  teardown.add(step('lock'));
  teardown.add(step('store'), () => {
    throw new Error('no');
  });
  teardown.add(async () => step('network')());
  const options = { deadlineMs: 100, first: async () => step('drain')(), last: step('last') };
  const stopped = teardown.stop(options);
  expect(teardown.stop(options)).toBe(stopped);
  await clock.run(() => calls.includes('last'), 50);
  await stopped;
  expect(calls).toEqual(['drain', 'network', 'store', 'lock', 'last']);
});

it('runs the steps even if what comes first fails', async () => {
  const { clock, calls, step, teardown } = setUp();
  teardown.add(step('lock'), step('store'));
  const first = async (): Promise<never> => {
    throw new Error('no');
  };
  const stopped = teardown.stop({ deadlineMs: 100, first, last: step('last') });
  await clock.run(() => calls.includes('last'), 50);
  await stopped;
  expect(calls).toEqual(['store', 'lock', 'last']);
});

it('ends at its deadline even if a step hangs', async () => {
  const { clock, calls, step, teardown } = setUp();
  teardown.add(step('lock'), () => new Promise(() => {}));
  const stopped = teardown.stop({ deadlineMs: 100, last: step('last') });
  expect(await clock.run(() => calls.includes('last'), 99)).toBe(false);
  await clock.run(() => calls.includes('last'), 1);
  await stopped;
  expect(calls).toEqual(['last']);
});
