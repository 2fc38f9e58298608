import { expect, test } from 'vitest';
import { nodeError } from '../../../../node/errors.ts';
import { coordinatorClocks } from '../../../../node/status/coordinator-clocks.ts';

/** A clock and a network whose exchanges take the given times on the way there and back, in milliseconds. */
function world(ways: readonly (readonly [number, number])[], coordinatorAhead: number) {
  let now = 1_000_000;
  let calls = 0;
  const clock = { now: () => now, monotonic: () => now, after: () => () => {} };
  const network = {
    request: async (peer: string) => {
      if (peer === 'old') throw nodeError('NO_ADDRESS', 'no such method', {});
      const [there, back] = ways[calls++]!;
      now += there;
      const at = now + coordinatorAhead;
      now += back;
      return { at };
    },
  };
  return { clock, network } as never;
}

const connected = (peer: string) => ({
  coordinator: { addresses: [], peer, connected: true, unreachable: null },
});

test('the exchange with the shortest round trip counts', async () => {
  const ways = [
    [90, 10],
    [4, 6],
    [30, 30],
  ] as const;
  expect(await coordinatorClocks([connected('p'), connected('p')], world(ways, -70_000))).toEqual([
    // The estimate assumes that the way there took half of the round trip, which is 5 ms. It took 4 ms.
    { coordinator: 'p', offsetMs: -70_001, roundTripMs: 10 },
  ]);
});

test('a coordinator that does not answer is left out', async () => {
  expect(await coordinatorClocks([connected('old')], world([], 0))).toEqual([]);
});
