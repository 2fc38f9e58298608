import { loraConfig } from '../../../lora/adapter/lora-config.ts';
import type { RunState, TrainingState } from '../../../lora/finetune/checkpoints.ts';
import { resolveSpec } from '../../../lora/finetune/settings/settings.ts';

/** A small training state for a step, with the other files of its checkpoint. */
export function trainingState(step: number, change: Partial<RunState> = {}) {
  const layout = [
    { name: 'base_model.model.x.lora_A.weight', shape: [2, 3], group: 'A' },
    { name: 'base_model.model.x.lora_B.weight', shape: [4, 2], group: 'B' },
  ] as const;
  const values = (from: number) => [new Float32Array(6).fill(from), new Float32Array(8).fill(-from)];
  const lora = loraConfig({ rank: 2, alpha: 4, targets: ['x'] });
  const state: RunState = {
    schemaVersion: 1,
    step,
    rows: 4 * step,
    tokens: 100 * step,
    seconds: step / 3,
    loss: 1 / step,
    lossBefore: null,
    heldOutLoss: null,
    losses: [],
    best: null,
    waited: 0,
    finished: null,
    settings: {
      spec: resolveSpec({ base: '/base', data: { train: ['/data'] } }),
      startedAt: 0,
      totalSteps: 1000,
      engine: 'onnx-cpu',
      alongside: [],
      threads: 1,
      baseBits: 32,
      precision: 'float32',
      checkpointing: false,
      base: 'b'.repeat(64),
      rows: 'd'.repeat(64),
      heldOut: null,
      start: null,
    },
    digests: {},
    ...change,
  };
  const training: TrainingState = {
    adapter: values(step),
    optimizer: { step, m: values(step + 0.5), v: values(step + 0.25) },
    state,
  };
  return { ...training, about: { layout, lora, baseModelName: 'base' } };
}
