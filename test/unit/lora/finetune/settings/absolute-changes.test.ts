import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { absoluteChanges } from '../../../../../lora/finetune/settings/absolute-paths.ts';

test('the training files in changes start from a folder, and nothing else changes', () => {
  const [a, b] = [resolve('data/a.jsonl'), resolve('data/b.jsonl')];
  expect(absoluteChanges({ 'data.train': 'a.jsonl', 'lora.rank': 8 }, 'data')).toEqual({
    'data.train': [a],
    'lora.rank': 8,
  });
  expect(absoluteChanges({ data: { train: ['a.jsonl', b], packing: 'none' } }, 'data')).toEqual({
    data: { train: [a, b], packing: 'none' },
  });
  // Values that are not paths stay as they are. The coordinator refuses them later.
  for (const changes of [{ seed: 1 }, { data: 5 }, { 'data.train': 5 }]) {
    expect(absoluteChanges(changes, 'data')).toEqual(changes);
  }
});
