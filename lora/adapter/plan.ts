import { modelError } from '../models/errors.ts';
import { type AdaptedModule, biasName, savedName, type TrainedCopy } from '../models/lora.ts';
import { weightOf } from '../models/parameters.ts';
import { firstMatches } from '../models/patterns.ts';
import { knownNames, type ModelShape, ownerOf, targetModules } from '../models/targets.ts';
import { adapterError } from './errors.ts';
import type { LoraConfig } from './lora-config.ts';

/** What an adapter does to a model. */
export interface AdapterPlan {
  /** In the model's order. */
  readonly modules: readonly AdaptedModule[];
  readonly copies: readonly TrainedCopy[];
}

/**
 * Works out what `lora` means for `model`, by PEFT's rules.
 *
 * @throws SwarmError LORA_TARGETS, LORA_PATTERN see targetModules; or an exclusion or a pattern of ranks or alphas matches
 *   nothing: it would do nothing, and nobody would notice
 * @throws SwarmError LORA_EMBEDDING an adapter on the embedding does not go with DoRA or a frozen A
 * @throws SwarmError LORA_SAVED, LORA_BIAS modules to save are unknown, or are trained in another way already
 */
export function adapterPlan(model: ModelShape, lora: LoraConfig): AdapterPlan {
  const targets = targetModules(model, lora);
  const names = targets.map(({ name }) => name);
  refuseUnused(model, lora, names);
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
    throw adapterError(
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
  throw adapterError('LORA_EMBEDDING', `the target ${module} is the embedding: ${reason}; leave it out`, {
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
 * Without the exclusions and patterns that match nothing: PEFT passes over them, and lists made for several families of
 * models have some.
 */
export function withoutUnused(model: ModelShape, lora: LoraConfig): LoraConfig {
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

function refuseUnused(model: ModelShape, lora: LoraConfig, names: readonly string[]): void {
  for (const field of ['rankPattern', 'alphaPattern'] as const) {
    const unused = lora[field].find(([pattern]) => !matchesSome(field, names, pattern));
    if (unused === undefined) continue;
    const leaves = [...new Set(names.map(leafOf))].sort();
    throw modelError(
      'LORA_PATTERN',
      `${JSON.stringify(unused[0])} of ${field} matches none of the ${names.length} adapted modules; they are ${leaves.join(', ')}`,
      { field, pattern: unused[0], modules: leaves },
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
    `no module of the model is called ${JSON.stringify(entry)}, which excludeModules names; it has ${leaves.join(', ')}`,
    { entry, modules: leaves },
  );
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
    throw adapterError(
      'LORA_SAVED',
      `no module of the model ends with ${JSON.stringify(entry)}, which modulesToSave names; it has ${leavesOf(parameters).join(', ')}`,
      { entry },
    );
  }
  const found = parameters.filter(({ name }) => entries.some((entry) => liesBelow(name, entry)));
  return found.map(({ name, from, shape }) => {
    const module = ownerOf(name);
    if (adapted.has(module))
      throw adapterError(
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

function leafOf(module: string): string {
  return module.slice(module.lastIndexOf('.') + 1);
}

function leavesOf(parameters: readonly { name: string }[]): string[] {
  return [...new Set(parameters.map(({ name }) => leafOf(ownerOf(name))))].sort();
}
