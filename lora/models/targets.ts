import { SwarmError } from '../../protocol/errors.ts';
import type { Architecture, LinearModule } from './architecture.ts';
import type { ModelConfig } from './families.ts';
import { firstMatches } from './patterns.ts';

/** Names of modules, or a regular expression over whole names. */
export type ModuleNames = string | readonly string[];

/** Which linear modules carry an adapter: PEFT's `target_modules`. */
export type Targets = 'all-linear' | ModuleNames;

/** PEFT's fields that decide together which modules carry an adapter. */
export interface TargetRules {
  readonly targets: Targets;
  readonly excludeModules: ModuleNames;
  /** Block numbers; empty means all. */
  readonly layersToTransform: readonly number[];
  readonly modulesToSave: readonly string[];
}

/** What a layout needs to know of a model. */
export interface ModelShape {
  readonly config: ModelConfig;
  readonly architecture: Architecture;
}

/**
 * The linear modules that carry an adapter, in the model's order, by PEFT's rules (peft tuners_utils,
 * `check_target_module_exists`): a list entry matches a module of that name or whose name ends with a dot
 * and the entry; a string is a regular expression that must match the whole name; 'all-linear' is every
 * linear module but the output head. Then those excluded (by the same rules), those of other layers (unless the list
 * has their whole name) and those that are saved whole are left out.
 *
 * @throws SwarmError LORA_TARGETS a list entry, or the pattern, matches no linear module, or also another one;
 *   or nothing is left
 * @throws SwarmError LORA_PATTERN a pattern cannot be used
 */
export function targetModules(model: ModelShape, rules: TargetRules): LinearModule[] {
  const { architecture, config } = model;
  const modules = architecture.linearModules(config);
  const names = modules.map(({ name }) => name);
  const targeted = isAllLinear(rules.targets)
    ? new Set(names.filter((name) => name !== architecture.head))
    : matchTargets(model, names, rules.targets);
  const excluded = matchNames('excludeModules', names, rules.excludeModules);
  const saved = firstMatches('modulesToSave', names, rules.modulesToSave, 'segments');
  const inLayers = layerFilter(model, rules);
  const left = modules.filter(
    ({ name }, i) => targeted.has(name) && !excluded.has(name) && saved[i] === -1 && inLayers(name),
  );
  if (left.length === 0)
    throw new SwarmError(
      'LORA_TARGETS',
      `none of the ${targeted.size} modules that the targets match is left after excludeModules, layersToTransform and modulesToSave`,
      { targeted: [...targeted] },
    );
  return left;
}

/** PEFT takes the word in any case. */
export function isAllLinear(targets: Targets): boolean {
  return typeof targets === 'string' && targets.toLowerCase() === 'all-linear';
}

/** The entries of a list that match some module. PEFT ignores the others as long as one matches. */
export function knownNames(model: ModelShape, list: readonly string[]): string[] {
  const { linear, others } = leafModules(model);
  return list.filter((entry) => [...linear, ...others].some((name) => matches(name, entry)));
}

/** Number of the block that a module lies in by PEFT's rule, the first numbered segment of its path; or null. */
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
  const { others } = leafModules(model);
  const entries = typeof targets === 'string' ? [targets] : targets;
  for (const entry of entries.length > 0 ? entries : ['']) {
    const one = typeof targets === 'string' ? entry : [entry];
    const [other] = matchNames('targets', others, one);
    if (other !== undefined) throw notLinear(other, entry);
    if (matchNames('targets', names, one).size === 0) throw unmatched(names, entry);
  }
  return matchNames('targets', names, targets);
}

/** Modules that have parameters of their own: those that are linear, and those that are not. */
function leafModules({ architecture, config }: ModelShape): { linear: string[]; others: string[] } {
  const linear = architecture.linearModules(config).map(({ name }) => name);
  const known = new Set(linear);
  const owners = architecture.parameters(config).map(({ name }) => name.slice(0, name.lastIndexOf('.')));
  return { linear, others: [...new Set(owners)].filter((name) => !known.has(name)) };
}

function layerFilter(
  { architecture, config }: ModelShape,
  { layersToTransform: layers, targets }: TargetRules,
): (name: string) => boolean {
  if (layers.length === 0) return () => true;
  const blocks = architecture.blocks(config).length;
  const beyond = layers.find((layer) => layer >= blocks);
  if (beyond !== undefined)
    throw new SwarmError(
      'LORA_TARGETS',
      `layersToTransform names layer ${beyond}, the model has ${blocks}, numbered from 0`,
      { layer: beyond, layers: blocks },
    );
  const wanted = new Set(layers);
  return (name) => {
    if (typeof targets !== 'string' && targets.includes(name)) return true;
    const layer = layerOf(name);
    return layer !== null && wanted.has(layer);
  };
}

function notLinear(module: string, target: string): SwarmError {
  return new SwarmError(
    'LORA_TARGETS',
    `the target ${JSON.stringify(target)} matches ${module}, which is not a linear module and carries no low-rank adapter here; train it whole with modulesToSave`,
    { target, module },
  );
}

function unmatched(names: readonly string[], target: string): SwarmError {
  const leaves = [...new Set(names.map((name) => name.slice(name.lastIndexOf('.') + 1)))].sort();
  return new SwarmError(
    'LORA_TARGETS',
    `no linear module of the model matches the target ${JSON.stringify(target)}; it has ${leaves.join(', ')}`,
    { target, modules: leaves },
  );
}
