import { setImmediate } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { Rechecks } from '../../../../coordinator/recovery/rechecks.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

let clock: ManualClock;
/** Digests of the blobs that were read, oldest first. */
let checked: string[];
/** Ends the check in progress. */
let end: (isWhole: boolean) => void;
let rechecks: Rechecks;

beforeEach(() => {
  clock = new ManualClock();
  checked = [];
  rechecks = new Rechecks({
    scrub: {
      check: (digest) => {
        checked.push(digest);
        return new Promise((resolve) => {
          end = resolve;
        });
      },
    },
    clock,
    network: { networkOf: (peer) => `address of ${peer.split(' ')[0]}` },
    signal: new AbortController().signal,
  });
});

const member = (peer: string) => ({ peer, mayStart: true });

/** Ends the check in progress, and starts the next one. */
async function finish(isWhole = true): Promise<void> {
  await setImmediate();
  end(isWhole);
  await setImmediate();
  await setImmediate();
}

test('a member that asks for all files of a base delays another member by one check', async () => {
  void rechecks.state('base 1', member('greedy'));
  for (const file of [2, 3, 4]) void rechecks.state(`base ${file}`, member('greedy'));
  const answer = rechecks.state('adapter', member('honest'));
  await finish();
  await finish();
  expect(checked.slice(0, 3)).toContain('adapter');
  await finish();
  expect(await answer).toBe('whole');
});

test('many members at one address delay a member at another address by one check', async () => {
  void rechecks.state('base 0', member('crowd 0'));
  for (let i = 1; i < 9; i++) void rechecks.state(`base ${i}`, member(`crowd ${i}`));
  void rechecks.state('adapter', member('honest'));
  for (let i = 0; i < 2; i++) await finish();
  expect(checked.slice(0, 3)).toContain('adapter');
});

test('a stranger causes no check, and gets the results of checks for members', async () => {
  const stranger = { peer: 'stranger', mayStart: false };
  expect(await rechecks.state('base', stranger)).toBe('checking');
  expect(checked).toEqual([]);
  const answer = rechecks.state('base', member('member'));
  await finish();
  expect(await answer).toBe('whole');
  expect(await rechecks.state('base', stranger)).toBe('whole');
});

test('a blob is not read again within 10 minutes, or within one minute if it is damaged', async () => {
  for (const isWhole of [true, false]) {
    const digest = isWhole ? 'whole' : 'damaged';
    const answer = rechecks.state(digest, member('member'));
    await finish(isWhole);
    expect(await answer).toBe(digest);
    clock.advance(isWhole ? 599_000 : 59_000);
    expect(await rechecks.state(digest, member('other'))).toBe(digest);
    clock.advance(1_000);
    void rechecks.state(digest, member('other'));
    await finish(isWhole);
    expect(checked.filter((one) => one === digest)).toHaveLength(2);
  }
});

test('the answer comes after 5 s, while the check goes on and its result is kept', async () => {
  const answer = rechecks.state('base', member('member'));
  clock.advance(5_000);
  expect(await answer).toBe('checking');
  await finish();
  expect(await rechecks.state('base', member('member'))).toBe('whole');
});

test('an answer leaves no timer', async () => {
  const answer = rechecks.state('base', member('member'));
  expect(clock.due()).toEqual([5_000]);
  await finish();
  expect(await answer).toBe('whole');
  await setImmediate();
  expect(clock.due()).toEqual([]);
});
