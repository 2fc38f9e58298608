import { expect, it } from 'vitest';
import { firstSettings } from '../../../protocol/job/settings.ts';
import { versionCard } from '../../../registry/export/card.ts';
import { publishCheckpoint } from '../../../registry/publish-checkpoint.ts';
import { BASE, openTestRegistry, smallPeftFolder } from '../../utils/registry/registry.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { toyJob } from '../../utils/virtual/toy-job.ts';

it('a version keeps the changes of the settings and the roll-backs of its job, and its card shows them', async () => {
  const { registry } = await openTestRegistry();
  const toy = toyJob(signerOf(1), {}).manifest;
  const manifest = { ...toy, base: { ...toy.base, digest: BASE } };
  const values = { ...firstSettings(manifest), learningRate: 0.5 };
  const publish = async (seed: number, facts: object) => {
    const checkpoint = { digest: BASE, round: 40, metrics: {} };
    const folder = await smallPeftFolder(seed);
    const published = await publishCheckpoint(registry, {
      folder,
      job: BASE,
      manifest,
      checkpoint,
      ...facts,
    });
    return published.version;
  };
  const curve = Array.from({ length: 41 }, (_, round) => ({
    round,
    heldOutLoss: 3,
    restores: round === 33 ? 14 : null,
  }));
  const version = await publish(1, { changes: [{ fromRound: 6, values }], curve });
  const rates = `${manifest.training.learningRate}, from round 6: 0.5`;
  expect(version.manifest.settings).toMatchObject({ 'training.learningRate': rates, 'rounds.count': 8 });
  expect(version.manifest.rollBacks).toEqual([{ round: 33, restores: 14 }]);
  const card = versionCard(registry, version);
  expect(card).toContain(`| training.learningRate | ${rates} |`);
  expect(card).toMatch(/^- Round 33 restores .* round 14\./m);
  const rateFrom = (from: number): number => 0.5 / from;
  const many = Array.from({ length: 300 }, (_, i) => ({
    fromRound: i + 2,
    values: { ...values, learningRate: rateFrom(i + 2) },
  }));
  const { manifest: long } = await publish(3, {
    changes: many,
    checkpoint: { digest: BASE, round: 400, metrics: {} },
  });
  const parts = String(long.settings['training.learningRate']).split(', ');
  expect(parts).toHaveLength(21);
  expect(parts.at(0)).toBe(String(manifest.training.learningRate));
  expect(parts.at(1)).toMatch(/^281\b/);
  expect(parts.at(-1)).toBe(`from round 301: ${rateFrom(301)}`);
  const plain = await publish(2, {});
  expect(plain.manifest.settings).toMatchObject({ 'training.learningRate': manifest.training.learningRate });
  expect(plain.manifest).not.toHaveProperty('rollBacks');
  expect(versionCard(registry, plain)).not.toContain('Roll-backs');
});
