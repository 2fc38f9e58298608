import { describe, expect, it } from 'vitest';
import { AdamW } from '../../../../../lora/train/optimizer/adamw.ts';
import { withCode } from '../../../../utils/source/codes.ts';

const step = { learningRate: 0.1, gradientScale: 1, clipNorm: 0 };

describe('AdamW', () => {
  it('first decays, then moves by the learning rate against the sign of the first gradient', () => {
    const optimizer = new AdamW({
      tensors: [
        { size: 2, decay: true },
        { size: 1, decay: false },
      ],
      betas: [0.9, 0.95],
      weightDecay: 0.5,
    });
    const parameters = [Float32Array.of(1, -2), Float32Array.of(4)];
    optimizer.step(parameters, [Float32Array.of(3, -0.01), Float32Array.of(1)], step);
    // θ ← θ (1 − 0.1·0.5) − 0.1·sign(g); the second tensor does not decay.
    expect(parameters[0]![0]).toBeCloseTo(0.85, 5);
    expect(parameters[0]![1]).toBeCloseTo(-1.8, 5);
    expect(parameters[1]![0]).toBeCloseTo(3.9, 5);
  });

  it('clips by the norm over all tensors, after scaling, and returns the norm before clipping', () => {
    const make = () =>
      new AdamW({
        tensors: [1, 1].map((size) => ({ size, decay: true })),
        betas: [0.9, 0.95],
        weightDecay: 0,
      });
    const zeros = () => [new Float32Array(1), new Float32Array(1)];
    const clipped = make();
    const norm = clipped.step(zeros(), [Float32Array.of(6), Float32Array.of(8)], {
      ...step,
      gradientScale: 0.5,
      clipNorm: 1,
    });
    expect(norm).toBeCloseTo(5);
    const [m0, m1] = clipped.exportState().m;
    expect(m0![0]).toBeCloseTo(0.1 * 0.6, 6);
    expect(m1![0]).toBeCloseTo(0.1 * 0.8, 6);
  });

  it('refuses a gradient that is not finite, and changes nothing', () => {
    const optimizer = new AdamW({ tensors: [{ size: 2, decay: true }], betas: [0.9, 0.95], weightDecay: 0 });
    const parameters = [Float32Array.of(1, 2)];
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => optimizer.step(parameters, [Float32Array.of(1, bad)], step)).toThrow(
        withCode('GRADIENT_NOT_FINITE'),
      );
    }
    expect(parameters).toEqual([Float32Array.of(1, 2)]);
    expect(optimizer.exportState()).toEqual({ step: 0, m: [new Float32Array(2)], v: [new Float32Array(2)] });
  });

  it('exports a copy', () => {
    const optimizer = new AdamW({ tensors: [{ size: 1, decay: true }], betas: [0.9, 0.95], weightDecay: 0 });
    const state = optimizer.exportState();
    optimizer.step([new Float32Array(1)], [Float32Array.of(1)], step);
    expect(state).toEqual({ step: 0, m: [new Float32Array(1)], v: [new Float32Array(1)] });
    optimizer.importState(state);
    expect(optimizer.steps).toBe(0);
  });

  it('restarts with other options as a new optimiser does', () => {
    const tensors = [{ size: 2, decay: true }];
    const options = { tensors, betas: [0.8, 0.9] as const, weightDecay: 0.1 };
    const used = new AdamW({ tensors, betas: [0.9, 0.95], weightDecay: 0 });
    used.step([Float32Array.of(1, 2)], [Float32Array.of(3, 4)], step);
    used.restart(options);
    expect(used.steps).toBe(0);
    const results = [used, new AdamW(options)].map((optimizer) => {
      const parameters = [Float32Array.of(1, 2)];
      optimizer.step(parameters, [Float32Array.of(-1, 5)], step);
      return { parameters, state: optimizer.exportState() };
    });
    expect(results[0]).toEqual(results[1]);
  });

  it('copies a state that it imports', () => {
    const optimizer = new AdamW({ tensors: [{ size: 1, decay: true }], betas: [0.9, 0.95], weightDecay: 0 });
    const state = { step: 3, m: [Float32Array.of(1)], v: [Float32Array.of(2)] };
    optimizer.importState(state);
    optimizer.step([new Float32Array(1)], [Float32Array.of(1)], step);
    expect(state).toEqual({ step: 3, m: [Float32Array.of(1)], v: [Float32Array.of(2)] });
  });
});
