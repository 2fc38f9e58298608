import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CombineMethod, MergeVersionsOptions } from '../../index.ts';
import { COMBINE_METHODS, SPARSE_METHODS } from '../../lora/adapter/combine/methods.ts';
import { VERSION_PARENTS } from '../../protocol/version-manifest.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';
import { collect, integer, jsonOption, number } from '../options/common.ts';
import { printJson, printLines, printNote } from '../print.ts';
import { versionJson } from '../views/adapters.ts';
import { adapterName, type RegistryFlags, registryOption, withRegistry } from './with-registry.ts';

interface MergeFlags extends RegistryFlags {
  method: CombineMethod;
  density?: number;
  rank?: number;
  signs?: 'total' | 'frequency';
  seed?: number;
  tag?: string[];
}

/** A version to merge, as the user named it on the command line. */
interface Source {
  readonly reference: string;
  /** Factor of the version in the sum; null if the user gave none, which means 1 divided by the number of versions. */
  readonly weight: number | null;
}

export function registerMerge(adapter: Command, context: Context): void {
  adapter
    .command('merge')
    .description('merge versions of one base into a new version, with the methods of PEFT')
    .argument('<name>', 'name of the adapter to which the result is added as a version', adapterName)
    .argument(
      '<version...>',
      'VERSION or VERSION=WEIGHT, for example poems:best=0.7; a negative weight subtracts what the version has learned (default weight: 1 divided by the number of versions)',
      source,
    )
    .addOption(
      new Option(
        '--method <method>',
        'cat computes the exact weighted sum, whose rank is the sum of the ranks of the versions; svd computes the best approximation of this sum with a smaller rank; the other methods combine the matrices A and B separately, as PEFT does',
      )
        .choices([...COMBINE_METHODS])
        .default('cat'),
    )
    .option(
      '--rank <n>',
      'rank of the result of svd (default: the largest rank of the versions)',
      integer(1, 1024),
    )
    .option(
      '--density <fraction>',
      'fraction of the values that magnitude_prune, ties and dare_* keep (default: 0.5)',
      share,
    )
    .addOption(
      new Option(
        '--signs <rule>',
        "rule by which ties and dare_ties choose the sign of each value: the sign of the sum of the versions' values (total), or the sign that most versions have (frequency) (default: total)",
      ).choices(['total', 'frequency']),
    )
    .option(
      '--seed <n>',
      'seed of the random choice of the values that dare_* keep (default: 0)',
      integer(0, 2 ** 32 - 1),
    )
    .option(
      '--tag <tag>',
      'tag to move to the resulting version, in addition to the tag latest; repeatable',
      collect,
    )
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((name: string, sources: Source[], flags: MergeFlags) => merge(context, name, sources, flags));
}

async function merge(
  context: Context,
  name: string,
  sources: readonly Source[],
  flags: MergeFlags,
): Promise<void> {
  refuseUseless(flags);
  const { signal } = context;
  const { mergeVersions } = await import('../../index.ts');
  const { method, density, rank, signs, seed, tag: tags } = flags;
  await withRegistry(context, flags, async (registry) => {
    const weighted = sources.map(({ reference, weight }) => ({
      version: registry.resolve(reference),
      weight: weight ?? 1 / sources.length,
    }));
    const chosen = { density, rank, signs, seed, tags };
    const given = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
    const options: MergeVersionsOptions = { name, sources: weighted, method, ...given, signal };
    const { version, created } = await mergeVersions(registry, options);
    if (flags.json) printJson(context, { schemaVersion: 1, created, ...versionJson(version) });
    else {
      const what = created ? 'merged into' : 'already there, with the same base and files:';
      const parts = weighted.map((one) => `${one.version.label} × ${Number(one.weight.toPrecision(4))}`);
      printLines(context, [
        `${what} ${version.label}  ${version.digest.slice(0, 12)}`,
        `${method}, rank ${version.manifest.settings['lora.rank']}: ${parts.join(' + ')}`,
      ]);
    }
    const { templateOf } = await import('../../registry/merge-versions.ts');
    const isLost = templateOf(version) === null && weighted.some((one) => templateOf(one.version) !== null);
    if (isLost)
      printNote(
        context,
        `${version.label} has no chat template, because the merged versions do not all have the same one`,
      );
  });
}

/** Refuses options that the method does not use. @throws SwarmError USAGE */
function refuseUseless({ method, ...flags }: MergeFlags): void {
  const used = {
    rank: method === 'svd',
    density: SPARSE_METHODS.includes(method),
    signs: method.endsWith('ties'),
    seed: method.startsWith('dare'),
  };
  for (const [flag, isUsed] of Object.entries(used)) {
    if (flags[flag as keyof typeof used] !== undefined && !isUsed)
      throw usageError(
        `--${flag} has no effect with --method ${method}`,
        'leave out this option, or choose another method',
      );
  }
}

function source(text: string, previous: readonly Source[] = []): Source[] {
  if (previous.length === VERSION_PARENTS)
    throw new InvalidArgumentError(`Give at most ${VERSION_PARENTS} versions.`);
  const at = text.lastIndexOf('=');
  if (at === -1) return [...previous, { reference: text, weight: null }];
  const weight = text.slice(at + 1);
  const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(weight) && Math.abs(Number(weight)) <= 1e6;
  if (!isNumber || Number(weight) === 0) {
    throw new InvalidArgumentError(
      `"${weight}" is not a weight. Use a number from -1e6 to 1e6 that is not 0.`,
    );
  }
  return [...previous, { reference: text.slice(0, at), weight: Number(weight) }];
}

function share(text: string): number {
  const value = number(0)(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError('Use a number above 0 and at most 1.');
  return value;
}
