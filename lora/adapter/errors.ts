import { defineErrors, REPORT } from '../../common/errors.ts';

export const adapterError = defineErrors({
  ADAPTER_BASE: { kind: 'failed', next: 'use the base that the adapter was trained on' },
  ADAPTER_CONFIG: {
    kind: 'failed',
    next: 'correct adapter_config.json, or save the adapter again with PEFT',
  },
  ADAPTER_INIT: { kind: 'failed', next: REPORT },
  ADAPTER_NOT_FINITE: { kind: 'failed', next: 'use an earlier version of the adapter' },
  ADAPTER_START: {
    kind: 'usage',
    next: 'leave out the LoRA settings (rank, alpha, targets, …); the run then takes the settings of the adapter',
  },
  ADAPTER_TENSORS: {
    kind: 'failed',
    next: 'check that the adapter belongs to this base and these LoRA settings',
  },
  ADAPTER_TIED_HEAD: { kind: 'failed', next: 'use the adapter without merging it' },
  ADAPTER_UNSUPPORTED: {
    kind: 'failed',
    next: 'merge the adapter into its base with PEFT, and use the merged model',
  },
  COMBINE_PARTS: {
    kind: 'failed',
    next: 'merge each adapter into the base instead, or train an adapter that has only LoRA matrices',
  },
  COMBINE_RANKS: { kind: 'usage', next: 'use the method "cat" or "svd", which take adapters of any rank' },
  COMBINE_SHAPES: { kind: 'failed', next: 'check that both adapters were made for the same base' },
  LORA_BIAS: { kind: 'usage', next: 'leave out one of the two settings' },
  LORA_CONFIG: { kind: 'usage', next: 'correct these LoRA settings (docs/training.md)' },
  LORA_EMBEDDING: { kind: 'usage', next: 'remove the embedding from the targets' },
  LORA_SAVED: 'usage',
  LORA_ZERO_NORM: { kind: 'usage', next: 'exclude the module with excludeModules' },
  SEED: { kind: 'failed', next: 'choose another seed' },
});
