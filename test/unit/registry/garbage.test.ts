import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { collectGarbage } from '../../../registry/collect-garbage.ts';
import { Registry } from '../../../registry/registry.ts';
import type { AdapterVersion } from '../../../registry/version.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { ManualClock } from '../../utils/manual-clock.ts';
import { addSmall, openTestRegistry } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';
import { signerOf } from '../../utils/swarm/signers.ts';

const HOUR = 3_600_000;

/** A clock that starts now, because files have the time of the machine. */
function presentClock(): ManualClock {
  const clock = new ManualClock();
  clock.set(Date.now() - clock.now());
  return clock;
}

describe('garbage collection', () => {
  it('is dry unless asked, waits for 24 hours, and deletes files and folders of removed versions', async () => {
    const { registry, clock } = await openTestRegistry(undefined, presentClock());
    const [kept, gone] = [await addSmall(registry, 'demo', 1), await addSmall(registry, 'demo', 2)];
    await registry.folder(gone);
    await registry.remove('demo:v2');
    expect(registry.resolve('demo').number).toBe(1);
    clock.advance(23 * HOUR);
    expect((await collectGarbage(registry, { delete: true })).blobs).toEqual([]);
    clock.advance(2 * HOUR);
    const weights = gone.manifest.files[1]!;
    const dry = await collectGarbage(registry);
    expect(dry).toMatchObject({ deleted: false, blobs: [{ digest: weights.digest }], bytes: weights.size });
    expect(await registry.blobs.has(weights.digest)).toBe(true);
    expect((await collectGarbage(registry, { delete: true })).blobs).toEqual(dry.blobs);
    expect(await registry.blobs.has(weights.digest)).toBe(false);
    await expect(registry.folder(gone)).rejects.toThrow(withCode('VERSION_DAMAGED'));
    await registry.folder(kept);
    expect(registry.versions('demo', { removed: true })).toHaveLength(2);
    const again = await addSmall(registry, 'demo', 2);
    expect([again.number, again.removedAt]).toEqual([2, null]);
    await registry.folder(again);
  });

  it('deletes what a killed addition left, but nothing that is held', async () => {
    const { registry, clock } = await openTestRegistry(undefined, presentClock());
    const orphan = await registry.blobs.put(new TextEncoder().encode('orphan'));
    const held = await registry.blobs.put(new TextEncoder().encode('held'));
    clock.advance(23 * HOUR);
    const hold = registry.holds.hold([held], clock.now());
    clock.advance(2 * HOUR);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(collectGarbage(registry, { delete: true, signal })).rejects.toBe(signal.reason);
    const { blobs } = await collectGarbage(registry, { delete: true });
    expect(blobs.map(({ digest }) => digest)).toEqual([orphan]);
    registry.holds.release(hold);
    expect((await collectGarbage(registry)).blobs.map(({ digest }) => digest)).toEqual([held]);
  });

  it('refuses to remove a tagged version without force', async () => {
    const { registry } = await openTestRegistry();
    await addSmall(registry, 'demo', 1, { tags: ['best'] });
    await expect(registry.remove('demo')).rejects.toMatchObject({
      code: 'VERSION_TAGGED',
      values: { tags: ['best'] },
    });
    await registry.remove('demo', { force: true });
    expect(registry.names()).toEqual([]);
    expect(() => registry.resolve('demo:v1')).toThrow(withCode('VERSION_REMOVED'));
    expect(() => registry.resolve('demo')).toThrow(withCode('VERSION_UNKNOWN'));
  });

  it('never deletes a file that a version in use or a hold needs', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const), value: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ do: fc.constant('remove' as const), value: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ do: fc.constant('wait' as const), value: fc.integer({ min: 1, max: 60 }) }),
      fc.constant({ do: 'collect' as const, value: 0 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        const { registry, clock, home } = await openTestRegistry(undefined, presentClock());
        for (const { do: what, value } of steps) {
          if (what === 'add') await addSmall(registry, 'demo', value);
          else if (what === 'wait') clock.advance(value * HOUR);
          else if (what === 'collect') await collectGarbage(registry, { delete: true });
          else await registry.remove(`demo:v${value}`).catch(() => {});
        }
        const inUse: AdapterVersion[] = registry.versions('demo');
        for (const version of inUse) await registry.folder(version);
        await rm(home, { recursive: true });
      }),
      { numRuns: 3 },
    );
  });
});

it('an addition that fails before its version is recorded leaves only garbage, and can be repeated', async () => {
  const home = join(await temporaryFolder(), 'registry');
  const clock = presentClock();
  let fails = true;
  const signer = async () => {
    if (fails) throw new Error('the key cannot be read');
    return signerOf(1);
  };
  const registry = await Registry.open({ home }, { clock, signer });
  onTestFinished(() => registry.close());
  await expect(addSmall(registry, 'demo', 1)).rejects.toThrow('the key cannot be read');
  expect(registry.names()).toEqual([]);
  clock.advance(25 * HOUR);
  // While a version is being added, its blobs are protected. The addition has failed, so they can be deleted.
  expect((await collectGarbage(registry, { delete: true })).blobs).toHaveLength(2);
  fails = false;
  const version = await addSmall(registry, 'demo', 1);
  expect(version.number).toBe(1);
  await registry.folder(version);
});
