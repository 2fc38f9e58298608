import { resolve } from 'node:path';
import { isBuiltIn } from '../../data/render/built-in.ts';
import { absoluteBase } from '../../models/base/find-base.ts';
import type { Layer } from './settings.ts';

/**
 * Makes the paths in settings absolute: base, data files, chat template, task files, and the adapter to start from.
 * Names of bases on the hub, of built-in templates and of adapters in the registry stay unchanged. Missing keys stay
 * missing.
 *
 * @param folder folder that relative paths start from
 */
export function absolutePaths<
  Settings extends Pick<Layer, 'base' | 'data'> & { start?: string | null; tasks?: unknown },
>(settings: Settings, folder: string): Settings {
  const all = (paths: unknown): unknown => absoluteAll(paths, folder);
  const { base, data, start, tasks } = settings;
  const { train, heldOut, template } = { ...data };
  const files = {
    ...data,
    ...(train !== undefined && { train: all(train) }),
    ...(heldOut !== undefined && { heldOut: all(heldOut) }),
    ...(typeof template === 'string' && !isBuiltIn(template) && { template: resolve(folder, template) }),
  };
  return {
    ...settings,
    ...(base !== undefined && { base: absoluteBase(base, folder) }),
    ...(data !== undefined && { data: files }),
    ...(isTasks(tasks) && { tasks: { ...tasks, files: all(tasks.files) } }),
    ...(typeof start === 'string' && { start: absoluteStart(start, folder) }),
  };
}

/**
 * Makes the paths of training files absolute in the changes with which a job is copied. The changes have keys such as
 * `data.train`.
 * @param folder folder that relative paths start from
 */
export function absoluteChanges(
  changes: Readonly<Record<string, unknown>>,
  folder: string,
): Readonly<Record<string, unknown>> {
  const { data } = changes;
  return {
    ...changes,
    ...(isTrained(data) && { data: { ...data, train: absoluteAll(data.train, folder) } }),
    ...(Object.hasOwn(changes, 'data.train') && { 'data.train': absoluteAll(changes['data.train'], folder) }),
  };
}

function absoluteAll(paths: unknown, folder: string): unknown {
  return isPaths(paths) ? [paths].flat().map((path) => resolve(folder, path)) : paths;
}

function isTrained(value: unknown): value is { train: unknown } {
  return typeof value === 'object' && value !== null && 'train' in value;
}

/**
 * Makes `start`, the adapter to start from, absolute if it is a path. It is a path if it has a slash or begins with a
 * dot. All other texts name a version in the registry, and stay unchanged.
 */
function absoluteStart(start: string, folder: string): string {
  return /[/\\]|^\./.test(start) ? resolve(folder, start) : start;
}

function isTasks(value: unknown): value is { files: unknown } {
  return typeof value === 'object' && value !== null && 'files' in value;
}

/**
 * Returns whether a value is a path or a list of paths. All other values stay as they are, because the schema refuses
 * them later.
 */
function isPaths(value: unknown): value is string | string[] {
  return (
    typeof value === 'string' || (Array.isArray(value) && value.every((path) => typeof path === 'string'))
  );
}
