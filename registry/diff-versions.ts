import type { AbortOptions } from '../common/abort-reason.ts';
import { compareAdapters, type ModuleComparison } from '../lora/adapter/compare.ts';
import { readMatrices } from '../lora/adapter/matrices.ts';
import { withFiles } from './export/export-folder.ts';
import type { Registry } from './registry.ts';
import { type AdapterVersion, allMetrics, sameHeldOut } from './version.ts';

/** A setting or metric that differs between two versions. A value is null if the version does not have it. */
export interface FactChange<Value> {
  readonly name: string;
  readonly first: Value | null;
  readonly second: Value | null;
}

/** Differences between two versions. */
export interface VersionDiff {
  /** Whether the two versions belong to the same base. */
  readonly sameBase: boolean;
  /**
   * Whether the held-out losses were measured on the same rows; null if a version has no held-out loss, or if it is not
   * known which data was used.
   */
  readonly sameHeldOut: boolean | null;
  readonly settings: readonly FactChange<string | number | boolean | null>[];
  readonly metrics: readonly FactChange<number>[];
  /** Comparisons of all modules that at least one of the two versions changes. */
  readonly modules: readonly ModuleComparison[];
}

/**
 * Compares two versions: settings, metrics, and the change of each module's weight.
 * @throws SwarmError VERSION_DAMAGED, ADAPTER_TENSORS, ADAPTER_CONFIG, ADAPTER_NOT_FINITE; the signal's reason
 */
export async function diffVersions(
  registry: Registry,
  first: AdapterVersion,
  second: AdapterVersion,
  { signal }: AbortOptions = {},
): Promise<VersionDiff> {
  signal?.throwIfAborted();
  const [one, two] = [
    await withFiles(registry, first, readMatrices),
    await withFiles(registry, second, readMatrices),
  ];
  const metrics = (version: AdapterVersion) => allMetrics(version, registry.measurements(version));
  return {
    sameBase: first.manifest.base.digest === second.manifest.base.digest,
    sameHeldOut: sameHeldOut([first, second]),
    settings: changes(first.manifest.settings, second.manifest.settings),
    metrics: changes(metrics(first), metrics(second)),
    modules: await compareAdapters(one, two, { signal }),
  };
}

function changes<Value>(
  first: Readonly<Record<string, Value>>,
  second: Readonly<Record<string, Value>>,
): FactChange<Value>[] {
  const names = [...new Set([...Object.keys(first), ...Object.keys(second)])].sort();
  return names
    .map((name) => ({ name, first: first[name] ?? null, second: second[name] ?? null }))
    .filter(({ first, second }) => first !== second);
}
