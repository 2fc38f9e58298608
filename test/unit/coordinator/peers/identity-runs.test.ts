import { beforeEach, expect, test } from 'vitest';
import { IdentityRuns } from '../../../../coordinator/peers/identity-runs.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const peer = 'a node';
const [FIRST, SECOND, THIRD] = ['1'.repeat(16), '2'.repeat(16), '3'.repeat(16)] as const;

let clock: ManualClock;
let runs: IdentityRuns;

beforeEach(() => {
  clock = new ManualClock();
  runs = new IdentityRuns({ clock });
});

/** Notes a request of each process, every 2 s. Returns all verdicts except `alone`, each as `verdict of process`. */
function alternate(processes: readonly string[], seconds: number): string[] {
  const seen: string[] = [];
  for (let second = 0; second < seconds; second += 2) {
    for (const run of processes) {
      const verdict = runs.note({ peer, run });
      if (verdict !== 'alone') seen.push(`${verdict} of ${run[0]}`);
    }
    clock.advance(2_000);
  }
  return seen;
}

test('two processes with one key are found within 10 s, and the later one is refused', () => {
  runs.note({ peer, run: FIRST });
  const began = clock.now();
  expect(alternate([SECOND, FIRST], 10)[0]).toBe('proven of 1');
  expect(runs.note({ peer, run: SECOND })).toBe('later');
  expect(runs.note({ peer, run: FIRST })).toBe('alone');
  expect(runs.duplicateSince(peer)).toBe(began);
});

test('the earliest process gets one notice of a later one, and the later one gets none', () => {
  runs.note({ peer, run: FIRST });
  alternate([SECOND, FIRST], 10);
  expect(runs.takeNotice({ peer, run: SECOND })).toBe(null);
  expect(runs.takeNotice({ peer, run: FIRST })).not.toBe(null);
  expect(runs.takeNotice({ peer, run: FIRST })).toBe(null);
});

test('a restart is no duplicate, also when messages of the ended process arrive late', () => {
  alternate([FIRST], 60);
  runs.note({ peer, run: SECOND });
  for (let i = 0; i < 5; i++) runs.note({ peer, run: FIRST });
  expect(alternate([SECOND], 60)).toEqual([]);
  expect(runs.duplicateSince(peer)).toBe(null);
  // The machine is restarted again, so a third process follows the second one.
  expect(alternate([THIRD], 60)).toEqual([]);
});

test('a replayed heartbeat of an ended process proves nothing', () => {
  runs.note({ peer, run: FIRST });
  runs.note({ peer, run: FIRST, issuedAt: 1_000 });
  runs.note({ peer, run: SECOND });
  for (let second = 0; second < 60; second += 2) {
    expect(runs.note({ peer, run: SECOND, issuedAt: 2_000 + second })).toBe('alone');
    expect(runs.note({ peer, run: FIRST, issuedAt: 1_000 })).toBe('alone');
    clock.advance(2_000);
  }
});

test('old heartbeats of an ended process, replayed in order after a restart of the coordinator, change nothing', () => {
  runs.note({ peer, run: FIRST, issuedAt: 1_000 });
  expect(runs.join({ peer, run: SECOND })).toBe('admitted');
  for (let second = 0; second < 60; second += 2) {
    expect(runs.note({ peer, run: SECOND })).toBe('alone');
    expect(runs.note({ peer, run: FIRST, issuedAt: 1_000 + second })).toBe('alone');
    clock.advance(2_000);
  }
  expect(runs.duplicateSince(peer)).toBe(null);
});

test('heartbeats keep a known process alive', () => {
  runs.join({ peer, run: FIRST });
  for (let second = 2; second < 40; second += 2) {
    clock.advance(2_000);
    runs.note({ peer, run: FIRST, issuedAt: 1_000 + second });
  }
  expect(runs.join({ peer, run: SECOND })).toBe('wait');
});

test('a process may join when the earlier one has been silent for 5 s, or has left', () => {
  expect(runs.join({ peer, run: FIRST })).toBe('admitted');
  expect(runs.join({ peer, run: SECOND })).toBe('wait');
  clock.advance(5_000);
  expect(runs.join({ peer, run: SECOND })).toBe('admitted');
  expect(runs.end(peer, FIRST)).toBe(false);
  expect(runs.end(peer, SECOND)).toBe(true);
  expect(runs.join({ peer, run: THIRD })).toBe('admitted');
});

test('a process that asks to join while the earlier one runs is refused for good within 10 s', () => {
  runs.join({ peer, run: FIRST });
  const answers: string[] = [];
  for (let second = 0; second < 10; second += 2) {
    answers.push(runs.join({ peer, run: SECOND }));
    runs.note({ peer, run: FIRST });
    clock.advance(2_000);
  }
  expect(answers.slice(0, 3)).toEqual(['wait', 'wait', 'wait']);
  expect(answers.at(-1)).toBe('later');
});

test('when the earlier process ends, the later one may go on', () => {
  alternate([FIRST, SECOND], 20);
  clock.advance(31_000);
  expect(alternate([SECOND], 60)).toEqual([]);
  expect(runs.duplicateSince(peer)).toBe(null);
});

test('three processes with one key are found too', () => {
  runs.note({ peer, run: FIRST });
  alternate([SECOND, THIRD, FIRST], 20);
  expect(runs.note({ peer, run: SECOND })).toBe('later');
  expect(runs.note({ peer, run: THIRD })).toBe('later');
});
