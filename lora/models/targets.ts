import { runInNewContext } from 'node:vm';
import { SwarmError } from '../../protocol/errors.ts';
import type { LinearModule } from './architecture.ts';

/** Which linear modules carry an adapter: PEFT's `target_modules`. */
export type Targets = 'all-linear' | string | readonly string[];

/** Longest pattern taken from a job or an adapter file, in characters. */
export const MAX_PATTERN_LENGTH = 1024;

/**
 * Time for matching a pattern against all module names, in milliseconds. Patterns come from strangers, and
 * a few characters are enough to make a backtracking matcher run for years; an honest one needs under 1 ms.
 */
export const PATTERN_TIMEOUT_MS = 250;

/**
 * The modules that `targets` names, in the order given, by PEFT's rules (peft tuners_utils,
 * `check_target_module_exists`): a list entry matches a module of that name or whose name ends with a dot
 * and the entry; a string is a regular expression that must match the whole name; 'all-linear' is every
 * linear module but the output head.
 *
 * @throws SwarmError LORA_TARGETS a list entry, or the pattern, matches no module; or the pattern is not valid
 */
export function matchTargets(modules: readonly LinearModule[], targets: Targets): LinearModule[] {
  if (isAllLinear(targets)) return modules.filter((module) => module.name !== 'lm_head');
  const names = modules.map((module) => module.name);
  const matched = new Set(
    typeof targets === 'string' ? matchPattern(names, targets) : matchList(names, targets),
  );
  return modules.filter((module) => matched.has(module.name));
}

/** PEFT takes the word in any case. */
export function isAllLinear(targets: Targets): boolean {
  return typeof targets === 'string' && targets.toLowerCase() === 'all-linear';
}

/** The entries of a target list that match some module. PEFT ignores the others as long as one matches. */
export function knownTargets(modules: readonly LinearModule[], targets: readonly string[]): string[] {
  return targets.filter((target) => modules.some((module) => matches(module.name, target)));
}

function matches(name: string, target: string): boolean {
  return name === target || name.endsWith(`.${target}`);
}

function matchList(names: readonly string[], targets: readonly string[]): string[] {
  for (const target of targets)
    if (!names.some((name) => matches(name, target))) throw unmatched(names, target);
  if (targets.length === 0) throw unmatched(names, '');
  return names.filter((name) => targets.some((target) => matches(name, target)));
}

function matchPattern(names: readonly string[], pattern: string): string[] {
  if (pattern.length > MAX_PATTERN_LENGTH)
    throw new SwarmError(
      'LORA_TARGETS',
      `the target pattern has ${pattern.length} characters, at most ${MAX_PATTERN_LENGTH} are taken; use a list of module names`,
      { length: pattern.length, limit: MAX_PATTERN_LENGTH },
    );
  // Python's spellings of a named group, a back-reference to it, and the ends of the text.
  const source = pattern
    .replaceAll('(?P<', '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replaceAll('\\A', '^')
    .replaceAll('\\Z', '$');
  let matched: string[];
  try {
    matched = runInNewContext(
      'names.filter((name) => new RegExp(source).test(name))',
      {
        names: [...names],
        source: `^(?:${source})$`,
      },
      { timeout: PATTERN_TIMEOUT_MS },
    ) as string[];
  } catch (cause) {
    throw new SwarmError(
      'LORA_TARGETS',
      `the target pattern ${JSON.stringify(pattern)} cannot be used: ${cause instanceof Error ? cause.message : cause}; use a list of module names`,
      { pattern },
      { cause },
    );
  }
  if (matched.length === 0) throw unmatched(names, pattern);
  return matched;
}

function unmatched(names: readonly string[], target: string): SwarmError {
  const leaves = [...new Set(names.map((name) => name.slice(name.lastIndexOf('.') + 1)))].sort();
  return new SwarmError(
    'LORA_TARGETS',
    `no linear module of the model matches the target ${JSON.stringify(target)}; it has ${leaves.join(', ')}`,
    { target, modules: leaves },
  );
}
