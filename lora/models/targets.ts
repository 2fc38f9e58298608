import type { SwarmError } from '../../common/errors.ts';
import type { Architecture, LinearModule } from './architecture.ts';
import { modelError } from './errors.ts';
import type { ModelConfig } from './families.ts';
import { firstMatches } from './patterns.ts';

/** Names of modules, or a regular expression that matches whole names. */
export type ModuleNames = string | readonly string[];

/** PEFT's `target_modules`: the modules that have LoRA matrices. */
export type Targets = 'all-linear' | ModuleNames;

/** PEFT's fields that together determine the target modules. */
export interface TargetRules {
  readonly targets: Targets;
  readonly excludeModules: ModuleNames;
  /** Numbers of the blocks whose modules can be targets. An empty list means all blocks. */
  readonly layersToTransform: readonly number[];
  readonly modulesToSave: readonly string[];
}

/**
 * A module that can have LoRA matrices. An embedding counts as a linear module whose inputs are one-hot vectors and
 * whose weight is stored as [in, out], where `in` is the vocabulary size.
 */
export interface TargetModule extends LinearModule {
  readonly embedding?: true;
}

/** A model's config and architecture, which determine all its shapes. */
export interface ModelShape {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
}

/**
 * Returns the target modules by PEFT's rules (peft tuners_utils, `check_target_module_exists`):
 * - A list entry matches a module with that name, or whose name ends with a dot and the entry.
 * - A string is a regular expression that must match the whole name.
 * - 'all-linear' means every linear module except the output head. Only the other two forms can name the token embedding.
 *
 * Three kinds of modules are then removed: excluded modules (found by the same rules), saved modules and, if
 * `layersToTransform` is set, modules outside these layers. A module whose whole name is in the target list stays,
 * whatever its layer.
 *
 * @throws SwarmError LORA_TARGETS if a list entry or the pattern matches nothing that can have LoRA matrices, if one
 *   matches a module that cannot have them, or if the rules leave no module
 * @throws SwarmError LORA_PATTERN if a pattern cannot be used
 */
export function targetModules(model: ModelShape, rules: TargetRules): TargetModule[] {
  const modules = candidates(model);
  const names = modules.map(({ name }) => name);
  const targeted = isAllLinear(rules.targets)
    ? new Set(allLinear(model).map(({ name }) => name))
    : matchTargets(model, names, rules.targets);
  const excluded = matchNames('excludeModules', names, rules.excludeModules);
  const saved = firstMatches('modulesToSave', names, rules.modulesToSave, 'segments');
  const inLayers = layerFilter(model, rules);
  const left = modules.filter(
    ({ name }, i) => targeted.has(name) && !excluded.has(name) && saved[i] === -1 && inLayers(name),
  );
  if (left.length === 0)
    throw modelError(
      'LORA_TARGETS',
      `the targets match ${targeted.size} modules, but excludeModules, layersToTransform and modulesToSave remove all of them`,
      { targeted: [...targeted] },
      { next: 'choose other targets, or remove fewer modules' },
    );
  return left;
}

/** Returns whether the targets are 'all-linear'. As in PEFT, upper and lower case are the same. */
export function isAllLinear(targets: Targets): boolean {
  return typeof targets === 'string' && targets.toLowerCase() === 'all-linear';
}

/**
 * Returns the entries of a list that match a module. If at least one entry matches, PEFT ignores all entries
 * that do not.
 */
export function knownNames(model: ModelShape, list: readonly string[]): string[] {
  const names = [...candidates(model).map(({ name }) => name), ...otherModules(model)];
  return list.filter((entry) => names.some((name) => matches(name, entry)));
}

/**
 * Returns the number of the block to which a module belongs; null if the module belongs to no block. As in
 * PEFT, the number of the block is the first segment of the module's path that is a number.
 */
export function layerOf(name: string): number | null {
  const index = /^.*?\.[^.]*\.(\d+)\./.exec(name)?.[1];
  return index === undefined ? null : Number(index);
}

function matches(name: string, entry: string): boolean {
  return name === entry || name.endsWith(`.${entry}`);
}

function matchNames(field: string, names: readonly string[], wanted: ModuleNames): Set<string> {
  if (typeof wanted !== 'string')
    return new Set(names.filter((name) => wanted.some((entry) => matches(name, entry))));
  const found = firstMatches(field, names, [wanted], 'whole');
  return new Set(names.filter((_, i) => found[i] === 0));
}

function matchTargets(model: ModelShape, names: readonly string[], targets: ModuleNames): Set<string> {
  const others = otherModules(model);
  const entries = typeof targets === 'string' ? [targets] : targets;
  for (const entry of entries.length > 0 ? entries : ['']) {
    const one = typeof targets === 'string' ? entry : [entry];
    const [other] = matchNames('targets', others, one);
    if (other !== undefined) throw notLinear(other, entry);
    if (matchNames('targets', names, one).size === 0) throw unmatched(names, entry);
  }
  return matchNames('targets', names, targets);
}

function allLinear({ architecture, config }: ModelShape): LinearModule[] {
  return architecture.linearModules(config).filter(({ name }) => name !== architecture.head);
}

function candidates({ architecture, config }: ModelShape): TargetModule[] {
  const table = architecture.parameters(config).find(({ name }) => name === architecture.embedding)!;
  const [vocabulary, width] = table.shape as [number, number];
  const name = ownerOf(table.name);
  const embedding = { name, in: vocabulary, out: width, bias: false, conv1d: true, embedding: true as const };
  return [embedding, ...architecture.linearModules(config)];
}

/** Lists the modules that have parameters but cannot have LoRA matrices. */
function otherModules(model: ModelShape): string[] {
  const { architecture, config } = model;
  const known = new Set(candidates(model).map(({ name }) => name));
  const owners = architecture.parameters(config).map(({ name }) => ownerOf(name));
  return [...new Set(owners)].filter((name) => !known.has(name));
}

/** Returns the module that a parameter belongs to. */
export function ownerOf(parameter: string): string {
  return parameter.slice(0, parameter.lastIndexOf('.'));
}

function layerFilter(
  { architecture, config }: ModelShape,
  { layersToTransform: layers, targets }: TargetRules,
): (name: string) => boolean {
  if (layers.length === 0) return () => true;
  const blocks = architecture.blocks(config).length;
  const beyond = layers.find((layer) => layer >= blocks);
  if (beyond !== undefined)
    throw modelError(
      'LORA_TARGETS',
      `layersToTransform has layer ${beyond}, but the model has ${blocks} layers, numbered from 0`,
      { layer: beyond, layers: blocks },
      { next: `name layers from 0 to ${blocks - 1}` },
    );
  const wanted = new Set(layers);
  return (name) => {
    if (typeof targets !== 'string' && targets.includes(name)) return true;
    const layer = layerOf(name);
    return layer !== null && wanted.has(layer);
  };
}

function notLinear(module: string, target: string): SwarmError {
  return modelError(
    'LORA_TARGETS',
    `the target ${JSON.stringify(target)} matches ${module}, which cannot have LoRA matrices: it is neither a linear module nor the token embedding`,
    { target, module },
    { next: 'train the module whole with modulesToSave' },
  );
}

function unmatched(names: readonly string[], target: string): SwarmError {
  const leaves = [...new Set(names.map((name) => name.slice(name.lastIndexOf('.') + 1)))].sort();
  return modelError(
    'LORA_TARGETS',
    `no linear module of the model matches the target ${JSON.stringify(target)}`,
    { target, modules: leaves },
    { next: `use names of the model's modules: ${leaves.join(', ')}` },
  );
}
