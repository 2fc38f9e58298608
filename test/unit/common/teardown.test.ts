import { expect, test } from 'vitest';
import { Teardown } from '../../../common/teardown.ts';
import { silentLogger } from '../../../monitor/log.ts';
import { VirtualClock } from '../../utils/virtual/virtual-clock.ts';

function setUp() {
  const clock = new VirtualClock(0);
  const said: string[] = [];
  const step = (name: string) => (): void => void said.push(name);
  return { clock, said, step, teardown: new Teardown({ clock, log: silentLogger }) };
}

test('closes in reverse order, whatever fails, and once', async () => {
  const { clock, said, step, teardown } = setUp();
  teardown.add(step('lock'));
  teardown.add(step('store'), () => {
    throw new Error('no');
  });
  teardown.add(async () => step('network')());
  const options = { deadlineMs: 100, first: async () => step('drain')(), last: step('over') };
  const stopped = teardown.stop(options);
  expect(teardown.stop(options)).toBe(stopped);
  await clock.run(() => said.includes('over'), 50);
  await stopped;
  expect(said).toEqual(['drain', 'network', 'store', 'lock', 'over']);
});

test('is over at its deadline, whatever hangs', async () => {
  const { clock, said, step, teardown } = setUp();
  teardown.add(step('lock'), () => new Promise(() => {}));
  const stopped = teardown.stop({ deadlineMs: 100, last: step('over') });
  expect(await clock.run(() => said.includes('over'), 99)).toBe(false);
  await clock.run(() => said.includes('over'), 1);
  await stopped;
  expect(said).toEqual(['over']);
});
