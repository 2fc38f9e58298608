import { describe, expect, it, test } from 'vitest';
import { AdamW } from '../../../../../lora/train/optimizer/adamw.ts';
import {
  type GroupedTensor,
  parameterGroupOf,
} from '../../../../../lora/train/optimizer/parameter-groups.ts';
import { trainingSchema } from '../../../../../protocol/job/manifest.ts';
import { maxDifference } from '../../../../utils/models/reference.ts';
import { trainingReference } from '../../../../utils/models/training-reference.ts';

const { groups, loraPlus } = trainingReference();
const defaults = trainingSchema.parse({});

function groupOf(name: string): GroupedTensor['group'] {
  if (name.includes('.lora_A.')) return 'A';
  if (name.includes('.lora_B.')) return 'B';
  if (name.endsWith('.lora_magnitude_vector')) return 'magnitude';
  return name.endsWith('.bias') ? 'bias' : 'saved';
}

describe('parameter groups', () => {
  test.each(groups.tensors)('equal those of PEFT and transformers: $name', ({ name, shape, rate, decay }) => {
    const training = { ...defaults, loraPlusRatio: groups.ratio };
    const group = groupOf(name);
    const found = parameterGroupOf({ shape, group }, training);
    expect(found.rate).toBe(rate);
    expect(found.size).toBe(shape.reduce((product, n) => product * n, 1));
    // The only difference: in transformers, weight decay also applies to the magnitudes of DoRA.
    if (group !== 'magnitude') expect(found.decay).toBe(decay);
    else {
      expect([decay, found.decay]).toEqual([true, false]);
      const theirs = {
        ...training,
        weightDecayGroups: [...training.weightDecayGroups, 'magnitude' as const],
      };
      expect(parameterGroupOf({ shape, group }, theirs).decay).toBe(true);
    }
  });

  it('have one learning rate by default, and biases never decay', () => {
    for (const group of ['A', 'B', 'magnitude', 'bias', 'saved'] as const) {
      expect(parameterGroupOf({ shape: [4, 4], group }, defaults).rate).toBe(1);
    }
    const weightDecayGroups = trainingSchema.shape.weightDecayGroups.parse(['A', 'B', 'magnitude', 'saved']);
    for (const group of ['bias', 'saved'] as const) {
      expect(parameterGroupOf({ shape: [4], group }, { ...defaults, weightDecayGroups }).decay).toBe(false);
    }
  });
});

it("three steps of AdamW with LoRA+ equal those of torch in PEFT's groups", () => {
  const { settings, tensors } = loraPlus;
  const training = { ...defaults, loraPlusRatio: settings.loraPlusRatio };
  const optimizer = new AdamW({
    ...settings,
    tensors: tensors.map(({ name, shape }) => parameterGroupOf({ shape, group: groupOf(name) }, training)),
  });
  const values = tensors.map(({ before }) => Float32Array.from(before));
  for (const step of [0, 1, 2]) {
    const gradients = tensors.map((tensor) => Float32Array.from(tensor.gradients[step]!));
    optimizer.step(values, gradients, {
      learningRate: settings.learningRate,
      gradientScale: 1,
      clipNorm: 0,
    });
  }
  for (const [i, { name, after, before }] of tensors.entries()) {
    expect(maxDifference(values[i]!, after), name).toBeLessThan(1e-6);
    expect(maxDifference(before, after)).toBeGreaterThan(1e-2);
  }
});

it('a tensor without a gradient keeps its values and moments', () => {
  const optimizer = new AdamW({
    tensors: [1, 1].map((size) => ({ size, decay: true })),
    betas: [0.9, 0.95],
    weightDecay: 0.5,
  });
  const values = [Float32Array.of(1), Float32Array.of(2)];
  const options = { learningRate: 0.1, gradientScale: 1, clipNorm: 0 };
  const norm = optimizer.step(values, [null, Float32Array.of(3)], options);
  expect(norm).toBe(3);
  expect(values[0]).toEqual(Float32Array.of(1));
  expect(values[1]![0]).not.toBe(2);
  expect(optimizer.exportState().m[0]).toEqual(Float32Array.of(0));
});
