import { defineErrors } from '../../common/errors.ts';

export const adapterError = defineErrors({
  ADAPTER_BASE: 'failed',
  ADAPTER_CONFIG: 'failed',
  ADAPTER_INIT: 'failed',
  ADAPTER_NOT_FINITE: 'failed',
  ADAPTER_TENSORS: 'failed',
  ADAPTER_TIED_HEAD: 'failed',
  ADAPTER_UNSUPPORTED: 'failed',
  LORA_BIAS: 'usage',
  LORA_CONFIG: 'usage',
  LORA_EMBEDDING: 'usage',
  LORA_SAVED: 'usage',
  LORA_ZERO_NORM: 'usage',
  SEED: 'failed',
});
