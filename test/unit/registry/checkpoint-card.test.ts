import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { firstSettings } from '../../../protocol/job/settings.ts';
import { checkpointCard } from '../../../registry/export/checkpoint-card.ts';
import { signerOf } from '../../utils/swarm/signers.ts';
import { toyJob } from '../../utils/virtual/toy-job.ts';

const DIGEST = 'ab'.repeat(32);

function card(changes: Partial<Parameters<typeof checkpointCard>[0]> = {}): string {
  const { manifest } = toyJob(signerOf(1), {});
  const curve = Array.from({ length: 41 }, (_, round) => ({ round, heldOutLoss: 4 - round / 40 }));
  return checkpointCard({
    job: DIGEST,
    manifest,
    checkpoint: { round: 40, digest: DIGEST, heldOutLoss: 3 },
    baseLoss: 4,
    curve,
    figures: { 'questions.acc,none': 0.75 },
    ...changes,
  });
}

it('has the base, the data, the scores, the loss curve and the settings', () => {
  const text = card();
  const [, front] = text.split('---\n');
  const { 'model-index': index } = parse(front!) as { 'model-index': { results: unknown[] }[] };
  expect(index[0]!.results).toMatchObject([
    { metrics: [{ value: 3 }, { value: 4 }] },
    { metrics: [{ name: 'questions.acc,none', value: 0.75 }] },
  ]);
  expect(text).toContain('round 40');
  expect(text).toContain('## Loss curve');
  expect(text).toContain('| 0 | 4.0000 |');
  expect(text).toContain('| 40 | 3.0000 |');
  // The card shows 20 of the 41 points.
  expect(text.match(/^\| \d+ \| \d\.\d{4} \|$/gm)).toHaveLength(20);
  expect(text).toContain('20 of 41 checkpoints');
  expect(text).toContain('| lora.rank |');
  expect(text).toContain('| training.learningRate |');
});

it('has each value of a setting that changed, with its first round, and the roll-backs', () => {
  const { manifest } = toyJob(signerOf(1), {});
  const first = firstSettings(manifest);
  const text = card({
    manifest,
    changes: [
      { fromRound: 6, values: { ...first, learningRate: 0.125 } },
      { fromRound: 6, values: { ...first, learningRate: 0.5 } },
      { fromRound: 41, values: { ...first, learningRate: 0.875 } },
    ],
    curve: [14, 33, 40].map((round) => ({ round, heldOutLoss: 3, restores: round === 33 ? 14 : null })),
  });
  expect(text).toContain(`| training.learningRate | ${first.learningRate}, from round 6: 0.5 |`);
  expect(text).toContain(`| rounds.count | ${first.count} |`);
  expect(text).not.toMatch(/0\.125|0\.875/);
  expect(text).toMatch(/^- Round 33 restores .* round 14\./m);
  expect(card()).not.toContain('Roll-backs');
  const thinned = card({ curve: [], rollBacks: [{ round: 7, restores: 5 }] });
  expect(thinned).toMatch(/^- Round 7 restores .* round 5\./m);
  const early = card({ manifest, changes: [{ fromRound: 1, values: { ...first, learningRate: 0.5 } }] });
  expect(early).toContain('| training.learningRate | 0.5 |');
});

it('says how many checkpoints of the job the loss curve shows', () => {
  const curve = [0, 9, 20].map((round) => ({ round, heldOutLoss: 3 }));
  expect(card({ curve })).toContain('all 3 checkpoints');
  expect(card({ curve, checkpointCount: 18 })).toContain('3 of 18 checkpoints');
});

it('names the base: its repository on the hub, or else its folder, and its digest', () => {
  const { manifest } = toyJob(signerOf(1), {});
  const named = (name: string) => card({ manifest: { ...manifest, base: { ...manifest.base, name } } });
  const { digest } = manifest.base;
  expect(named('org/tiny')).toMatch(new RegExp(`^- base: .*huggingface\\.co/org/tiny.*${digest}`, 'm'));
  expect(named('org/tiny')).toMatch(/^base_model: org\/tiny$/m);
  expect(named('nano')).toMatch(new RegExp(`^- base: \`nano\`.*${digest}`, 'm'));
  expect(named('nano')).not.toMatch(/^base_model:/m);
});

it('has samples as text, whatever they contain', () => {
  const text = card({ samples: [{ prompt: 'Once', before: 'a | b\n<b>', after: 'upon' }] });
  expect(text).toContain('| Once | a \\| b &lt;b> | upon |');
  const hostile = card({
    samples: [{ prompt: '![x](https://a)', before: '[x](https://a)', after: '\\[x](b)' }],
  });
  expect(hostile).toContain('| !&#91;x](https://a) | &#91;x](https://a) | \\&#91;x](b) |');
  expect(card()).not.toContain('## Samples');
});

it.each([
  ['merged', 'library_name: transformers'],
  ['gguf-merged', 'library_name: gguf'],
  ['adapter', 'library_name: peft'],
] as const)('says what the folder of the form %s contains', (form, library) => {
  expect(card({ form })).toContain(library);
});

it('leaves out what is not known', () => {
  const text = card({ curve: [], figures: null, baseLoss: null });
  expect(text.match(/^## .+$/gm)).toEqual(['## Results', '## Settings']);
  expect(text).not.toContain('acc,none');
  expect(text).toContain('| held-out data | heldOutLoss | 3 |');
});
