import { expect, it } from 'vitest';
import type { CoordinatorDeps } from '../../../../coordinator/context.ts';
import { recall } from '../../../../coordinator/recovery/recall.ts';
import { silentLogger } from '../../../../monitor/logs/log.ts';
import { training } from '../scripted-peer.ts';
import { COORDINATOR, World } from '../world.ts';

it('asks no further members when two minutes have passed without a new record', async () => {
  const world = new World({ rounds: { minPeers: 1 } });
  await training(world, 1);
  const { run, clock, store } = world;
  let asked = 0;
  const network = {
    signer: COORDINATOR,
    request: (_peer: string, _method: string, _body: object, { signal }: { signal: AbortSignal }) => {
      asked++;
      const { promise, reject } = Promise.withResolvers<never>();
      signal.addEventListener('abort', () => reject(signal.reason));
      return promise;
    },
  } as unknown as CoordinatorDeps['network'];
  const members = Array.from({ length: 5_000 }, (_, i) => `member-${i}`);
  const start = clock.monotonic();
  const { signal } = new AbortController();
  const deps = { network, store, clock, log: silentLogger, signal };
  const options = { proofs: [], members, answered: new Map(), until: Infinity };
  const lost = await world.settle(recall(run, options, deps));
  expect(lost).toEqual([]);
  expect(asked).toBeLessThan(200);
  expect(clock.monotonic() - start).toBeLessThan(3 * 60_000);
});
