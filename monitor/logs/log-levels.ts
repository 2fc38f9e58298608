import { monitorError } from '../errors.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** The modules whose loggers have a field `module`. */
export const logModules: readonly string[] = ['net', 'trainer'];

export interface Levels {
  readonly level: LogLevel;
  /** Levels by module. A logger belongs to the module that its field `module` names. */
  readonly modules: Readonly<Record<string, LogLevel>>;
}

/**
 * Reads a text such as "info" or "info,net=debug,trainer=warn". pino has a level for each logger, but no levels by module.
 * @throws SwarmError LOG_LEVEL for an unknown level or module
 */
export function parseLevels(text: string, fallback: LogLevel): Levels {
  let level = fallback;
  const modules: Record<string, LogLevel> = {};
  for (const part of text.split(',').filter((p) => p !== '')) {
    const [left, right] = part.split('=', 2) as [string, string | undefined];
    const found = logLevels.find((l) => l === (right ?? left));
    if (found === undefined) throw monitorError('LOG_LEVEL', `"${part}" is not a log level`, { found: part });
    if (right !== undefined && !logModules.includes(left)) {
      throw monitorError('LOG_LEVEL', `"${left}" is not a module of the log`, { found: left });
    }
    if (right === undefined) level = found;
    else modules[left] = found;
  }
  return { level, modules };
}

/** Returns the least severe level that a logger with these fields writes. */
export function levelFor({ level, modules }: Levels, { module }: { module?: unknown }): LogLevel {
  return (typeof module === 'string' ? modules[module] : undefined) ?? level;
}
