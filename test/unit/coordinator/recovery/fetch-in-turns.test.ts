import { expect, it } from 'vitest';
import { fetchInTurns, HOLDERS, TURN_MS } from '../../../../coordinator/recovery/fetch-in-turns.ts';
import { netError } from '../../../../net/errors.ts';
import type { FetchBlobOptions } from '../../../../net/network.ts';
import { SLOWEST_BYTES_PER_SECOND } from '../../../../protocol/limits.ts';
import { ManualClock } from '../../../utils/manual-clock.ts';

const MIB = 1024 * 1024;
const REF = { digest: 'd', size: 1024 * MIB };
const settle = (): Promise<void> => new Promise(setImmediate);

/** A fetch from holders that the test drives. All but the first HOLDERS holders are in later groups. */
function fetching({ groups, totalMs }: { groups: number; totalMs?: number }) {
  const clock = new ManualClock();
  const holders = Array.from({ length: groups * HOLDERS }, (_, i) => `holder ${i}`);
  const calls: {
    holders: readonly string[];
    store: (bytes: number) => void;
    end: (error?: Error) => void;
  }[] = [];
  const network = {
    fetchBlob: (_ref: object, { holders, signal, onProgress }: FetchBlobOptions) =>
      new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        const store = (bytes: number): void => onProgress!({ bytes, total: REF.size });
        const end = (error?: Error): void => (error ? reject(error) : resolve());
        calls.push({ holders, store, end });
      }),
  };
  const stop = new AbortController();
  const options = { holders, again: true, signal: stop.signal, ...(totalMs !== undefined && { totalMs }) };
  const done = fetchInTurns(REF, options, { network, clock });
  // Most tests await `done` at their end. Without a handler until then, Node.js would report the rejection as unhandled.
  done.catch(() => {});
  /** Lets almost half a turn pass. At its end, the newest call has stored `bytes` in total. */
  const pass = async (bytes: number): Promise<void> => {
    clock.advance(TURN_MS / 2 - 1);
    await settle();
    calls.at(-1)!.store(bytes);
  };
  return { calls, done, stop, pass, holders };
}

it('asks the next holders if the first ones are silent', async () => {
  const { calls, done, pass, holders } = fetching({ groups: 2 });
  for (let i = 0; i < 3; i++) await pass(0);
  expect(calls.map((call) => call.holders)).toEqual([holders.slice(0, HOLDERS), holders.slice(HOLDERS)]);
  calls[1]!.end();
  await done;
});

it('does not wait for holders that deliver more slowly than allowed', async () => {
  const { calls, done, pass } = fetching({ groups: 2 });
  for (let i = 1; i <= 3; i++) await pass(0.4 * i * MIB);
  expect(calls).toHaveLength(2);
  calls[1]!.end();
  await done;
});

it('lets holders deliver for as long as their bytes arrive at the lowest supported speed', async () => {
  const { calls, done, pass } = fetching({ groups: 2 });
  const half = (SLOWEST_BYTES_PER_SECOND * TURN_MS) / 2_000;
  for (let i = 1; i <= 100; i++) await pass(i * half);
  expect(calls).toHaveLength(1);
  calls[0]!.end();
  await done;
});

it('counts again from the beginning after damaged bytes', async () => {
  const { calls, pass } = fetching({ groups: 2 });
  await pass(100 * MIB);
  for (let i = 1; i <= 4; i++) await pass(10 * i * MIB);
  expect(calls).toHaveLength(1);
});

it('names all reasons if no node gives the blob', async () => {
  const { calls, done, pass } = fetching({ groups: 2 });
  calls[0]!.end(netError('BLOB_UNAVAILABLE', 'all are offline', {}));
  await settle();
  for (let i = 0; i < 3; i++) await pass(0);
  await expect(done).rejects.toMatchObject({
    code: 'BLOB_UNAVAILABLE',
    values: { ...REF, holders: 2 * HOLDERS },
    message: expect.stringContaining('all are offline'),
  });
});

it('ends with the reason of its signal', async () => {
  const { calls, done, stop } = fetching({ groups: 2 });
  const reason = new Error('stop');
  stop.abort(reason);
  await expect(done).rejects.toBe(reason);
  expect(calls).toHaveLength(1);
});

it('ends after the time limit, although bytes arrive and further holders are left', async () => {
  const { calls, done, pass } = fetching({ groups: 2, totalMs: 3 * TURN_MS });
  for (let i = 1; i <= 7; i++) await pass(2 * i * MIB);
  await expect(done).rejects.toMatchObject({ code: 'BLOB_UNAVAILABLE', values: { holders: HOLDERS } });
  expect(calls).toHaveLength(1);
});
