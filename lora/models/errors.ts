import { defineErrors, REPORT } from '../../common/errors.ts';

const GET_FILE = 'get the file again';
const GET_MODEL = 'get the model again';

export const modelError = defineErrors({
  BASE_BITS: { kind: 'usage', next: 'choose another engine, or --base-bits 32' },
  BASE_FILE_DAMAGED: {
    kind: 'failed',
    next: 'connect a peer that has the file, or restore it from a backup',
  },
  BASE_DIGEST: { kind: 'failed', next: 'ask the operator of the coordinator to create the job again' },
  GGUF_ADAPTER: { kind: 'failed', next: 'export the merged model instead' },
  GGUF_CHANGED: { kind: 'failed', next: 'run the command again when no program writes to the file' },
  GGUF_HEADER: { kind: 'failed', next: GET_FILE },
  GGUF_METADATA: { kind: 'failed', next: GET_FILE },
  GGUF_RANGE: { kind: 'failed', next: 'choose the type bf16 or f32' },
  GGUF_TRUNCATED: { kind: 'failed', next: GET_FILE },
  GGUF_UNSUPPORTED: {
    kind: 'failed',
    next: 'use the Hugging Face folder of the model instead of a GGUF file',
  },
  GGUF_WRITE: { kind: 'failed', next: REPORT },
  LORA_PATTERN: { kind: 'usage', next: 'list module names instead of a pattern' },
  LORA_TARGETS: 'usage',
  MODEL_CONFIG: { kind: 'failed', next: "get the model's own config.json again" },
  MODEL_DIR: {
    kind: 'notFound',
    next: 'give the path of a folder with config.json, tokenizer.json and model.safetensors',
  },
  MODEL_FILE_MISSING: {
    kind: 'notFound',
    next: 'check the path of the folder, and that all its files have been copied',
  },
  MODEL_FILE_TOO_LARGE: { kind: 'failed', next: GET_FILE },
  MODEL_INDEX: { kind: 'failed', next: GET_MODEL },
  MODEL_JSON: { kind: 'failed', next: GET_FILE },
  MODEL_PARAMETER: { kind: 'failed', next: REPORT },
  MODEL_SEQUENCE_TOO_LONG: { kind: 'usage', next: 'use a shorter sequence length' },
  MODEL_UNSUPPORTED: { kind: 'failed', next: 'choose another base model' },
  SEQUENCE_LENGTH: { kind: 'failed', next: "pad the rows to the batch's length" },
  TENSORS_DTYPE: { kind: 'failed', next: 'convert the tensors to F32, F16 or BF16' },
  TENSORS_ENTRY: { kind: 'failed', next: GET_FILE },
  TENSORS_HEADER: { kind: 'failed', next: GET_FILE },
  TENSORS_MISSING: { kind: 'notFound', next: GET_MODEL },
  TENSORS_SHAPE: {
    kind: 'failed',
    next: `${GET_MODEL}, because its config.json and weights do not belong together`,
  },
  TENSORS_TRUNCATED: { kind: 'failed', next: GET_FILE },
  TENSORS_UNEXPECTED: { kind: 'failed', next: GET_MODEL },
});
