import { describe, expect, it } from 'vitest';
import { diffLines, lineageLines } from '../../../cli/views/adapter-history.ts';
import { versionTable } from '../../../cli/views/adapters.ts';
import { diffVersions } from '../../../registry/diff-versions.ts';
import { lineageOf } from '../../../registry/lineage.ts';
import type { AdapterVersion } from '../../../registry/version.ts';
import { addSmall, openTestRegistry } from '../../utils/registry/registry.ts';

const from = ({ digest, label }: AdapterVersion, method: string, weight = 1) => ({
  digest,
  label,
  method,
  weight,
});

describe('the lineage of a version', () => {
  it('is a tree of parents, with what this registry does not know, and each version expanded once', async () => {
    const { registry } = await openTestRegistry();
    const first = await addSmall(registry, 'a', 1, {
      parents: [{ digest: 'f'.repeat(64), label: 'far:v9', method: 'import', weight: 1 }],
    });
    const second = await addSmall(registry, 'b', 2, { parents: [from(first, 'train')] });
    const merged = await addSmall(registry, 'c', 3, {
      parents: [from(second, 'svd', 0.5), from(first, 'svd', 0.5)],
    });
    await registry.remove('b:v1');
    const lines = lineageLines(lineageOf(registry, merged));
    expect(lines.map((line) => line.replace(/ {2}[0-9a-f]{12}/, ''))).toEqual([
      'c:v1  latest',
      '├─ b:v1  (svd, weight 0.5)  removed',
      '│  └─ a:v1  (train)  latest',
      expect.stringMatching(/^│ {5}└─ far:v9 {2}\(import\) {2}\S/),
      expect.stringMatching(/^└─ a:v1 {2}\(svd, weight 0\.5\) {2}latest {2}\(\S/),
    ]);
  });
});

describe('the difference of two versions', () => {
  it('lists settings, metrics, and norms and cosines by layer', async () => {
    const { registry } = await openTestRegistry();
    const first = await addSmall(registry, 'demo', 1, { settings: { seed: 1 }, metrics: { loss: 2 } });
    const second = await addSmall(registry, 'demo', -3, { settings: { seed: 2 }, metrics: { loss: 2 } });
    registry.measure(second, 'task', { loss: 1.5 });
    const diff = await diffVersions(registry, first, second);
    expect(diff).toMatchObject({
      sameBase: true,
      settings: [{ name: 'seed', first: 1, second: 2 }],
      metrics: [{ name: 'loss', first: 2, second: 1.5 }],
      modules: [{ name: 'model.layers.0.self_attn.q_proj', rank: [1, 1] }],
    });
    const [{ norm, cosine, difference }] = diff.modules as [(typeof diff.modules)[number]];
    expect(norm[1] / norm[0]).toBeCloseTo(3);
    expect(cosine).toBeCloseTo(-1);
    expect(difference).toBeCloseTo(4 * norm[0]);
    const text = diffLines([first, second], diff, { all: false }).join('\n');
    expect(text).toMatch(/seed +1 +2/);
    expect(text).toMatch(/loss +2 +1\.5 +−0\.5/);
    expect(text).toMatch(/model\.layers\.0 .*-1\.0000/);
  });

  it('says if the held-out losses were measured on different rows, as the list of versions does', async () => {
    const { registry } = await openTestRegistry();
    const withData = (value: number, digest: string, metrics = { heldOutLoss: value }) =>
      addSmall(registry, 'demo', value, { data: [{ name: 'held-out', digest: digest.repeat(64) }], metrics });
    const [one, same, other] = [await withData(1, 'a'), await withData(2, 'a'), await withData(3, 'b')];
    const bare = await addSmall(registry, 'demo', 4, { metrics: { heldOutLoss: 2 } });
    // A job computes the digest of its held-out data in another way than a run, so the two cannot be compared.
    const job = { digest: 'c'.repeat(64), name: 'demo', checkpoint: 'd'.repeat(64), round: 1 };
    const ofJob = await addSmall(registry, 'demo', 5, {
      job,
      data: [{ name: 'held-out', digest: 'e'.repeat(64) }],
      metrics: { heldOutLoss: 2 },
    });
    const found = async (second: AdapterVersion) => {
      const diff = await diffVersions(registry, one, second);
      const text = diffLines([one, second], diff, { all: false }).join('\n');
      return [diff.sameHeldOut, text.includes('evaluate')];
    };
    expect(await found(same)).toEqual([true, false]);
    expect(await found(other)).toEqual([false, true]);
    expect(await found(bare)).toEqual([null, false]);
    expect(await found(ofJob)).toEqual([null, false]);
    const linesOf = (versions: AdapterVersion[]): number =>
      versionTable(versions.map((version) => ({ version, measurements: [] }))).length - versions.length - 1;
    expect([linesOf([one, same, bare, ofJob]), linesOf([one, same, other])]).toEqual([0, 1]);
  });
});
