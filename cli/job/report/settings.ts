import type { JobReport } from './facts.ts';

/**
 * Returns the settings of a job as the rows of a table, under their keys in the job file. A setting that changed has its
 * newest value.
 */
export function settingRows({
  manifest,
  settings,
}: Pick<JobReport['job'], 'manifest' | 'settings'>): string[][] {
  const { learningRate, ...rounds } = settings;
  const { lora, training, acceptance, seed } = manifest;
  const all = {
    lora,
    training: { ...training, learningRate },
    rounds: { ...manifest.rounds, ...rounds },
    acceptance,
    seed,
  };
  return flat('', all);
}

function flat(prefix: string, value: unknown): string[][] {
  if (value === null || typeof value !== 'object') return [[prefix, value === null ? 'none' : String(value)]];
  if (Array.isArray(value) && value.every((one) => typeof one !== 'object'))
    return [[prefix, value.join(', ') || 'none']];
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  if (entries.length === 0) return [[prefix, 'none']];
  return entries.flatMap(([key, inner]) => flat(prefix === '' ? key : `${prefix}.${key}`, inner));
}
