import { SwarmError } from '../../protocol/errors.ts';
import { type AdaptedModule, biasName, savedName, type TrainedCopy } from '../models/lora.ts';
import { weightOf } from '../models/parameters.ts';
import { firstMatches } from '../models/patterns.ts';
import { type ModelShape, ownerOf, targetModules } from '../models/targets.ts';
import type { LoraConfig } from './config.ts';

/** Highest rank taken from a job or an adapter file: above it LoRA costs more than the layers it adapts. */
export const MAX_RANK = 1024;

/** What an adapter does to a model. */
export interface AdapterPlan {
  /** In the model's order. */
  readonly modules: readonly AdaptedModule[];
  readonly copies: readonly TrainedCopy[];
}

/**
 * Works out what `lora` means for `model`, by PEFT's rules.
 *
 * @throws SwarmError LORA_RANK, LORA_ALPHA a value is out of its range
 * @throws SwarmError LORA_TARGETS, LORA_PATTERN see targetModules
 * @throws SwarmError LORA_EMBEDDING an adapter on the embedding does not go with DoRA or a frozen A
 * @throws SwarmError LORA_SAVED, LORA_BIAS modules to save are unknown, or are trained in another way already
 */
export function adapterPlan(model: ModelShape, lora: LoraConfig): AdapterPlan {
  checkRank(lora.rank);
  checkAlpha(lora.alpha);
  const targets = targetModules(model, lora);
  const names = targets.map(({ name }) => name);
  const ranks = byPattern('rankPattern', names, lora.rankPattern, lora.rank);
  const alphas = byPattern('alphaPattern', names, lora.alphaPattern, lora.alpha);
  const modules = targets.map((module, i) => {
    const rank = ranks[i]!;
    const alpha = alphas[i]!;
    checkRank(rank);
    checkAlpha(alpha);
    return { ...module, rank, scale: lora.useRslora ? alpha / Math.sqrt(rank) : alpha / rank };
  });
  checkEmbedding(modules, lora);
  const saved = savedCopies(model, lora.modulesToSave, new Set(names));
  const biases = biasCopies(model, lora.bias, new Set(names));
  const both = saved.find(({ parameter }) => biases.some((bias) => bias.parameter === parameter));
  if (both)
    throw new SwarmError(
      'LORA_BIAS',
      `bias "${lora.bias}" and modulesToSave both train ${both.parameter}; leave out one of the two`,
      { bias: lora.bias, parameter: both.parameter },
    );
  return { modules, copies: [...saved, ...biases] };
}

function checkEmbedding(modules: readonly AdaptedModule[], { useDora, freezeA }: LoraConfig): void {
  const module = modules.find(({ embedding }) => embedding)?.name;
  if (module === undefined || (!useDora && !freezeA)) return;
  const reason = useDora
    ? 'DoRA of an embedding is not computed here'
    : 'A of an embedding starts at zero, and frozen there nothing would be trained';
  throw new SwarmError('LORA_EMBEDDING', `the target ${module} is the embedding: ${reason}; leave it out`, {
    module,
    useDora,
    freezeA,
  });
}

function byPattern(
  field: string,
  names: readonly string[],
  patterns: LoraConfig['rankPattern'],
  otherwise: number,
): number[] {
  const sources = patterns.map(([pattern]) => pattern);
  return firstMatches(field, names, sources, 'end').map((found) => patterns[found]?.[1] ?? otherwise);
}

/** The entries of modulesToSave that match some module. PEFT passes over the others as long as one matches. */
export function knownSaved(model: ModelShape, entries: readonly string[]): string[] {
  const parameters = ownParameters(model);
  return entries.filter((entry) => parameters.some(({ name }) => liesBelow(name, entry)));
}

/** Whether the path of a module that holds the parameter ends with the entry, a dot before it or not: PEFT's rule. */
function liesBelow(parameter: string, entry: string): boolean {
  return parameter.includes(`${entry}.`);
}

function savedCopies(
  model: ModelShape,
  entries: readonly string[],
  adapted: ReadonlySet<string>,
): TrainedCopy[] {
  const parameters = ownParameters(model);
  const known = knownSaved(model, entries);
  for (const entry of entries) {
    if (known.includes(entry)) continue;
    throw new SwarmError(
      'LORA_SAVED',
      `no module of the model ends with ${JSON.stringify(entry)}, which modulesToSave names; it has ${leavesOf(parameters).join(', ')}`,
      { entry },
    );
  }
  const found = parameters.filter(({ name }) => entries.some((entry) => liesBelow(name, entry)));
  return found.map(({ name, from, shape }) => {
    const module = ownerOf(name);
    if (adapted.has(module))
      throw new SwarmError(
        'LORA_SAVED',
        `${module} is a target and ends with an entry of modulesToSave; write the entry so that it matches whole path segments only`,
        { module },
      );
    return { tensor: savedName(name), parameter: name, from, shape, group: 'saved' };
  });
}

function biasCopies(
  model: ModelShape,
  bias: LoraConfig['bias'],
  adapted: ReadonlySet<string>,
): TrainedCopy[] {
  if (bias === 'none') return [];
  return ownParameters(model).flatMap(({ name, shape }) => {
    const module = ownerOf(name);
    if (!name.endsWith('.bias') || (bias === 'lora_only' && !adapted.has(module))) return [];
    const tensor = biasName(module, adapted.has(module));
    return [{ tensor, parameter: name, from: name, shape, group: 'bias' as const }];
  });
}

/** The model's parameters, with one of its own for an output head that shares its weights with the embedding. */
function ownParameters({ architecture, config }: ModelShape) {
  const list = architecture.parameters(config).map(({ name, shape }) => ({ name, from: name, shape }));
  if (!config.tieWordEmbeddings) return list;
  const from = weightOf(architecture.head, architecture, config);
  const { shape } = list.find(({ name }) => name === from)!;
  return [...list, { name: `${architecture.head}.weight`, from, shape }];
}

function leavesOf(parameters: readonly { name: string }[]): string[] {
  return [...new Set(parameters.map(({ name }) => ownerOf(name).split('.').at(-1)!))].sort();
}

function checkRank(rank: number): void {
  if (Number.isInteger(rank) && rank >= 1 && rank <= MAX_RANK) return;
  throw new SwarmError(
    'LORA_RANK',
    `the LoRA rank is ${rank}, expected a whole number from 1 to ${MAX_RANK}`,
    {
      rank,
      limit: MAX_RANK,
    },
  );
}

function checkAlpha(alpha: number): void {
  if (Number.isFinite(alpha) && alpha > 0) return;
  throw new SwarmError('LORA_ALPHA', `the LoRA alpha is ${alpha}, expected a positive number`, { alpha });
}
