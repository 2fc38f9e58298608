/** Recognises the names that other tools give to our settings, so that an error can give our name for the setting. */
import type { Problem } from '../../../common/schema-problems.ts';

/**
 * Our key for each name of PEFT, transformers, TRL, axolotl, LLaMA-Factory, torchtune and mlx-lm. docs/training.md has
 * the same names as a table.
 */
const NAMES: Readonly<Record<string, string>> = {
  base_model: 'base',
  model: 'base',
  model_name_or_path: 'base',
  output_dir: 'output',
  dataset: 'data.train',
  datasets: 'data.train',
  train_file: 'data.train',
  test_datasets: 'data.heldOut',
  r: 'lora.rank',
  lora_r: 'lora.rank',
  lora_rank: 'lora.rank',
  lora_alpha: 'lora.alpha',
  lora_dropout: 'lora.dropout',
  lora_target: 'lora.targets',
  lora_target_modules: 'lora.targets',
  target_modules: 'lora.targets',
  lora_target_linear: 'lora.targets: all-linear',
  exclude_modules: 'lora.excludeModules',
  layers_to_transform: 'lora.layersToTransform',
  peft_layers_to_transform: 'lora.layersToTransform',
  rank_pattern: 'lora.rankPattern',
  alpha_pattern: 'lora.alphaPattern',
  use_rslora: 'lora.useRslora',
  peft_use_rslora: 'lora.useRslora',
  use_dora: 'lora.useDora',
  peft_use_dora: 'lora.useDora',
  modules_to_save: 'lora.modulesToSave',
  lora_modules_to_save: 'lora.modulesToSave',
  bias: 'lora.bias',
  init_lora_weights: 'lora.initLoraWeights',
  lr: 'training.learningRate',
  learning_rate: 'training.learningRate',
  lr_schedule: 'training.schedule',
  lr_scheduler: 'training.schedule',
  lr_scheduler_type: 'training.schedule',
  min_lr_rate: 'training.finalFraction',
  cosine_min_lr_ratio: 'training.finalFraction',
  warmup: 'training.warmupSteps',
  warmup_steps: 'training.warmupSteps',
  warmup_ratio: 'training.warmupRatio',
  adam_beta1: 'training.betas (a list of both numbers)',
  adam_beta2: 'training.betas (a list of both numbers)',
  adam_epsilon: 'training.epsilon',
  weight_decay: 'training.weightDecay',
  max_grad_norm: 'training.clipNorm',
  clip_grad_norm: 'training.clipNorm',
  loraplus_lr_ratio: 'training.loraPlusRatio',
  neftune_noise_alpha: 'training.neftuneAlpha',
  label_smoothing_factor: 'training.labelSmoothing',
  batch_size: 'training.batchSize',
  micro_batch_size: 'training.microBatch',
  per_device_train_batch_size: 'training.microBatch',
  gradient_accumulation_steps: 'training.batchSize (the rows of a whole step: microBatch × accumulation)',
  max_length: 'training.sequenceLength',
  max_seq_length: 'training.sequenceLength',
  sequence_len: 'training.sequenceLength',
  cutoff_len: 'training.sequenceLength',
  num_epochs: 'run.epochs',
  num_train_epochs: 'run.epochs',
  epochs: 'run.epochs',
  max_steps: 'run.steps',
  iters: 'run.steps',
  eval_steps: 'run.evaluateEvery',
  steps_per_eval: 'run.evaluateEvery',
  save_steps: 'run.checkpointEvery',
  save_every: 'run.checkpointEvery',
  save_total_limit: 'run.keepCheckpoints',
  early_stopping_patience: 'run.patience',
  early_stopping_threshold: 'run.minDelta',
  load_best_model_at_end: 'run.final: best',
};

/**
 * Returns a problem for every key that is another tool's name for one of our settings, at the top level or in
 * a block.
 */
export function foreignKeys(value: unknown): Problem[] {
  return keysOf(value).flatMap(({ block, key }) => {
    const own = Object.hasOwn(NAMES, key) ? NAMES[key] : undefined;
    // Some names are the same in lora-swarm, such as "bias" in the block "lora", so they need no change.
    if (own === undefined || own === `${block}.${key}`) return [];
    const field = block === '' ? key : `${block}.${key}`;
    return [{ field, text: `write ${own} instead of "${field}"` }];
  });
}

function keysOf(value: unknown): { block: string; key: string }[] {
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    { block: '', key },
    // Keys at a deeper level are left out, because they are module patterns and not settings.
    ...(isObject(inner) ? Object.keys(inner).map((name) => ({ block: key, key: name })) : []),
  ]);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
