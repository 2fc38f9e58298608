import { modelError } from '../models/errors.ts';
import { type AdaptedModule, biasName, savedName, type TrainedCopy } from '../models/lora.ts';
import { weightOf } from '../models/parameters.ts';
import { firstMatches } from '../models/patterns.ts';
import { knownNames, type ModelShape, ownerOf, targetModules } from '../models/targets.ts';
import { adapterError } from './errors.ts';
import type { LoraConfig } from './lora-config.ts';

/** The modules that an adapter changes, and the base parameters that it trains. */
export interface AdapterPlan {
  /** The adapted modules, in the model's order. */
  readonly modules: readonly AdaptedModule[];
  readonly copies: readonly TrainedCopy[];
}

/**
 * Applies LoRA settings to a model by PEFT's rules.
 *
 * @throws SwarmError LORA_TARGETS, LORA_PATTERN as in targetModules. Also if an exclusion, a rank pattern or an alpha
 *   pattern matches nothing, because this is probably a mistake
 * @throws SwarmError LORA_EMBEDDING if the embedding is a target together with DoRA or a frozen A
 * @throws SwarmError LORA_SAVED, LORA_BIAS if a module to save is unknown, or already trained in another way
 */
export function adapterPlan(model: ModelShape, lora: LoraConfig): AdapterPlan {
  const targets = targetModules(model, lora);
  const names = targets.map(({ name }) => name);
  refuseUnmatched(model, lora, names);
  const ranks = byPattern('rankPattern', names, lora.rankPattern, lora.rank);
  const alphas = byPattern('alphaPattern', names, lora.alphaPattern, lora.alpha);
  const modules = targets.map((module, i) => {
    const rank = ranks[i]!;
    const alpha = alphas[i]!;
    return { ...module, rank, scale: lora.useRslora ? alpha / Math.sqrt(rank) : alpha / rank };
  });
  checkEmbedding(modules, lora);
  const saved = savedCopies(model, lora.modulesToSave, new Set(names));
  const biases = biasCopies(model, lora.bias, new Set(names));
  const both = saved.find(({ parameter }) => biases.some((bias) => bias.parameter === parameter));
  if (both)
    throw adapterError('LORA_BIAS', `bias "${lora.bias}" and modulesToSave both train ${both.parameter}`, {
      bias: lora.bias,
      parameter: both.parameter,
    });
  return { modules, copies: [...saved, ...biases] };
}

function checkEmbedding(modules: readonly AdaptedModule[], { useDora, freezeA }: LoraConfig): void {
  const module = modules.find(({ embedding }) => embedding)?.name;
  if (module === undefined || (!useDora && !freezeA)) return;
  const reason = useDora
    ? 'DoRA is not implemented for it'
    : 'its A starts at zero, so with a frozen A nothing would be trained';
  throw adapterError('LORA_EMBEDDING', `the target ${module} is the embedding, and ${reason}`, {
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

/**
 * Removes exclusions and patterns that match nothing. PEFT ignores them, and they are common in lists written for
 * several model families.
 */
export function withoutUnmatched(model: ModelShape, lora: LoraConfig): LoraConfig {
  const names = targetModules(model, lora).map(({ name }) => name);
  const used = (field: PatternField) => lora[field].filter(([pattern]) => matchesSome(field, names, pattern));
  const { excludeModules: excluded } = lora;
  return {
    ...lora,
    excludeModules: typeof excluded === 'string' ? excluded : knownNames(model, excluded),
    rankPattern: used('rankPattern'),
    alphaPattern: used('alphaPattern'),
  };
}

type PatternField = 'rankPattern' | 'alphaPattern';

function matchesSome(field: PatternField, names: readonly string[], pattern: string): boolean {
  return firstMatches(field, names, [pattern], 'end').includes(0);
}

function refuseUnmatched(model: ModelShape, lora: LoraConfig, names: readonly string[]): void {
  for (const field of ['rankPattern', 'alphaPattern'] as const) {
    const unmatched = lora[field].find(([pattern]) => !matchesSome(field, names, pattern));
    if (unmatched === undefined) continue;
    const leaves = [...new Set(names.map(leafOf))].sort();
    throw modelError(
      'LORA_PATTERN',
      `${JSON.stringify(unmatched[0])} in ${field} matches none of the ${names.length} target modules`,
      { field, pattern: unmatched[0], modules: leaves },
      { next: `use names of target modules: ${leaves.join(', ')}` },
    );
  }
  const { excludeModules: excluded } = lora;
  if (typeof excluded === 'string') return;
  const known = knownNames(model, excluded);
  const entry = excluded.find((name) => !known.includes(name));
  if (entry === undefined) return;
  const leaves = leavesOf(ownParameters(model));
  throw modelError(
    'LORA_TARGETS',
    `${JSON.stringify(entry)} in excludeModules matches no module of the model`,
    { entry, modules: leaves },
    { next: `use names of the model's modules: ${leaves.join(', ')}` },
  );
}

/**
 * Returns the entries of modulesToSave that match a module. PEFT ignores entries without a match if any entry matches.
 */
export function knownSaved(model: ModelShape, entries: readonly string[]): string[] {
  const parameters = ownParameters(model);
  return entries.filter((entry) => parameters.some(({ name }) => isUnder(name, entry)));
}

/**
 * Returns whether a parameter lies in a module whose name ends with an entry of modulesToSave. As in PEFT,
 * the match may begin in the middle of a path segment.
 */
function isUnder(parameter: string, entry: string): boolean {
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
    throw adapterError(
      'LORA_SAVED',
      `${JSON.stringify(entry)} in modulesToSave matches no module of the model`,
      { entry },
      { next: `use names of the model's modules: ${leavesOf(parameters).join(', ')}` },
    );
  }
  const found = parameters.filter(({ name }) => entries.some((entry) => isUnder(name, entry)));
  return found.map(({ name, from, shape }) => {
    const module = ownerOf(name);
    if (adapted.has(module)) {
      const entry = JSON.stringify(entries.find((one) => isUnder(name, one)));
      throw adapterError(
        'LORA_SAVED',
        `${module} is a target, but ${entry} in modulesToSave also matches it`,
        { module },
        { next: 'leave out that entry, or write it so that it matches only other modules' },
      );
    }
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

/** Lists the model's parameters. A tied output head is listed as a separate parameter. */
function ownParameters({ architecture, config }: ModelShape) {
  const list = architecture.parameters(config).map(({ name, shape }) => ({ name, from: name, shape }));
  if (!config.tieWordEmbeddings) return list;
  const from = weightOf(architecture.head, architecture, config);
  const { shape } = list.find(({ name }) => name === from)!;
  return [...list, { name: `${architecture.head}.weight`, from, shape }];
}

function leafOf(module: string): string {
  return module.slice(module.lastIndexOf('.') + 1);
}

function leavesOf(parameters: readonly { name: string }[]): string[] {
  return [...new Set(parameters.map(({ name }) => leafOf(ownerOf(name))))].sort();
}
