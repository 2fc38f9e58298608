import { expect, it } from 'vitest';
import {
  FETCH_STALL_MS,
  FETCHES_AT_ONCE,
  fetchTimeoutMs,
  PayloadFetches,
} from '../../../../coordinator/intake/payload-fetches.ts';
import type { FetchBlobOptions } from '../../../../net/network.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const SIZE = 1024 * 1024;
const settle = (): Promise<void> => new Promise(setImmediate);

/** Payload fetches of authors that the test drives. */
function fetches() {
  const clock = new ManualClock();
  const transfers = new Map<string, { arrive: () => void; finish: () => void }>();
  const network = {
    networkOf: (peer: string) => peer.split(' at ')[1] ?? peer,
    fetchBlob: (_ref: object, { holders, signal, onArrival }: FetchBlobOptions) =>
      new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        transfers.set(holders[0]!, { arrive: () => onArrival!(), finish: resolve });
      }),
  };
  const payloads = new PayloadFetches({ network, clock });
  const outcomes = new Map<string, string>();
  const begin = async (author: string, digest = `payload of ${author}`): Promise<void> => {
    const { signal } = new AbortController();
    void payloads.fetch(author, { digest, size: SIZE }, { again: true, signal }).then(
      () => outcomes.set(author, 'done'),
      (error: { code: string }) => outcomes.set(author, error.code),
    );
    await settle();
  };
  /** Lets time pass in steps, in each of which some bytes of each of these authors arrive. */
  const pass = async (ms: number, arriving: readonly string[]): Promise<void> => {
    const step = FETCH_STALL_MS / 2;
    for (let passed = 0; passed < ms; passed += step) {
      clock.advance(Math.min(step, ms - passed));
      await settle();
      for (const author of arriving) transfers.get(author)?.arrive();
    }
  };
  return { begin, pass, transfers, outcomes };
}

const authors = (count: number): string[] => Array.from({ length: count }, (_, i) => `author ${i}`);

it('lets a payload take any time while its bytes arrive and no author waits', async () => {
  const { begin, pass, transfers, outcomes } = fetches();
  for (const author of authors(FETCHES_AT_ONCE)) await begin(author);
  await pass(50 * fetchTimeoutMs(SIZE), authors(FETCHES_AT_ONCE));
  expect(outcomes.size).toBe(0);
  transfers.get('author 0')!.finish();
  await settle();
  expect(outcomes.get('author 0')).toBe('done');
});

it('ends a fetch of which no byte arrives for a while', async () => {
  const { begin, pass, outcomes } = fetches();
  await begin('silent');
  await begin('slow');
  await pass(FETCH_STALL_MS, ['slow']);
  expect(outcomes).toEqual(new Map([['silent', 'DEADLINE_EXCEEDED']]));
});

it('ends the slowest fetches for authors that wait, one for each, and only after their time', async () => {
  const { begin, pass, transfers, outcomes } = fetches();
  const slow = authors(FETCHES_AT_ONCE);
  for (const author of slow) await begin(author);
  await begin('honest 1');
  await begin('honest 2');
  await pass(fetchTimeoutMs(SIZE) - 2, slow);
  expect(outcomes.size).toBe(0);
  expect(transfers.has('honest 1')).toBe(false);
  await pass(FETCH_STALL_MS, [...slow, 'honest 1', 'honest 2']);
  expect([transfers.has('honest 1'), transfers.has('honest 2')]).toEqual([true, true]);
  expect([...outcomes]).toEqual([
    ['author 0', 'FETCH_GAVE_WAY'],
    ['author 1', 'FETCH_GAVE_WAY'],
  ]);
});

it('does not let an author hold up another with the same payload by serving it slowly', async () => {
  const { begin, pass, transfers, outcomes } = fetches();
  await begin('copycat', 'one payload');
  await begin('honest', 'one payload');
  await pass(fetchTimeoutMs(SIZE) + FETCH_STALL_MS / 2, ['copycat']);
  expect(outcomes).toEqual(new Map([['copycat', 'FETCH_GAVE_WAY']]));
  expect(transfers.has('honest')).toBe(true);
});

it('serves an author at another address before a crowd that waits at one address, also one without connections', async () => {
  const { begin, transfers } = fetches();
  const crowd = authors(3 * FETCHES_AT_ONCE).map((author) => `${author} at 192.0.2.1`);
  const gone = authors(FETCHES_AT_ONCE).map((author) => `${author}, not connected`);
  for (const author of [...crowd, ...gone]) await begin(author);
  await begin('honest at 198.51.100.1');
  for (const author of crowd.slice(0, 4)) {
    transfers.get(author)!.finish();
    await settle();
  }
  expect(transfers.has('honest at 198.51.100.1')).toBe(true);
});
