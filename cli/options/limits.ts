import { InvalidArgumentError } from 'commander';
import type { KeptLimits } from '../../index.ts';
import {
  limitHelp,
  limitMeaning,
  limitText,
  NODE_LIMITS,
  type NodeLimit,
  readLimit,
} from '../../monitor/node-limits.ts';
import { areHours } from '../../node/limits/hours.ts';
import type { LimitChanges } from '../../node/limits/limits.ts';
import { usageError } from '../errors.ts';

/** Returns the parser of an option of `lora-swarm node` that sets a limit. */
export function limitOption(key: string) {
  const limit = NODE_LIMITS[key]!;
  return (text: string) => {
    const value = parsed(limit, text);
    if (value === undefined) throw new InvalidArgumentError(`Give the ${limitHelp(limit)}.`);
    return value;
  };
}

function parsed(limit: NodeLimit, text: string): ReturnType<typeof readLimit> {
  return limit.kind === 'hours' && !areHours(text) ? undefined : readLimit(limit, text);
}

/** Parses limits of the form KEY=VALUE. KEY=default, or the text that is shown as the default, restores a default. @throws SwarmError USAGE */
export function parseLimits(texts: readonly string[]): LimitChanges {
  const changes: Record<string, number | string | boolean | null> = {};
  for (const text of texts) {
    const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    const limit = Object.hasOwn(NODE_LIMITS, key) ? NODE_LIMITS[key]! : null;
    const keys = Object.keys(NODE_LIMITS).join(', ');
    if (limit === null) {
      throw usageError(`"${text}" does not set a limit`, `write KEY=VALUE; the keys are ${keys}`);
    }
    if (limit.field in changes) throw usageError(`${key} is given twice`, 'give each key once');
    const change = ['default', limit.byDefault].includes(value) ? null : parsed(limit, value);
    if (change === undefined) {
      throw usageError(
        `"${value}" is not a value of ${key}`,
        `${limitMeaning(key, limit)}; "${key}=default" restores the default`,
      );
    }
    changes[limit.field] = change;
  }
  return changes;
}

/** Number of columns before the value in a line of {@link limitLines}. */
export const LIMIT_INDENT = 2 + Math.max(...Object.keys(NODE_LIMITS).map((key) => key.length));

/** Returns a line for each limit: its name, its value and its meaning. */
export function limitLines(limits: KeptLimits): string[] {
  return Object.entries(NODE_LIMITS).map(([key, limit]) => {
    const shown = limitText(limit, limits[limit.field as keyof KeptLimits]);
    return `${key.padEnd(LIMIT_INDENT)}${shown}  (${limit.help})`;
  });
}

/** Returns the keys of the changed limits that a running node applies only after a restart. */
export function keysAtStart(changes: LimitChanges): string[] {
  return Object.entries(NODE_LIMITS).flatMap(([key, { field, atStart = false }]) =>
    atStart && field in changes ? [key] : [],
  );
}
