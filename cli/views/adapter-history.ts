import { figureName, formatChange, formatLoss, rounded, table } from '../../common/text.ts';
import type { AdapterVersion, LineageNode, ModuleComparison, VersionDiff } from '../../index.ts';
import { SWARM } from '../command-name.ts';

/** Returns the lineage of a version as a tree, with the version itself at the top. */
export function lineageLines(node: LineageNode): string[] {
  return [nodeText(node), ...branches(node, '')];
}

function branches({ parents }: LineageNode, indent: string): string[] {
  return parents.flatMap((parent, i) => {
    const last = i === parents.length - 1;
    const line = `${indent}${last ? '└─ ' : '├─ '}${nodeText(parent)}`;
    return [line, ...branches(parent, `${indent}${last ? '   ' : '│  '}`)];
  });
}

function nodeText({ label, digest, version, edge, repeated }: LineageNode): string {
  const loss = version?.manifest.metrics.heldOutLoss;
  const weight = edge === null || edge.weight === 1 ? '' : `, weight ${edge.weight}`;
  const notes = [
    ...(edge === null ? [] : [`(${edge.method}${weight})`]),
    ...(version?.tags.length ? [version.tags.join(' ')] : []),
    ...(loss === undefined ? [] : [`held-out loss ${formatLoss(loss)}`]),
    ...(version === null ? ['not in this registry'] : []),
    ...(version?.removedAt == null ? [] : ['removed']),
    ...(repeated ? ['(see above)'] : []),
  ];
  return [label, digest.slice(0, 12), ...notes].join('  ');
}

/**
 * Formats the differences between two versions.
 * @param options `all`: whether to print a line for each module instead of each layer. `columns`: maximum length of a
 *   line of a table
 */
export function diffLines(
  [first, second]: readonly [AdapterVersion, AdapterVersion],
  { sameBase, sameHeldOut, settings, metrics, modules }: VersionDiff,
  { all, columns }: { all: boolean; columns?: number },
): string[] {
  const section = (title: string, rows: readonly (readonly string[])[]): string[] =>
    rows.length === 1 ? ['', `${title}: the same`] : ['', `${title}:`, ...table(rows, { columns })];
  const rows = all ? modules : byLayer(modules);
  return [
    `${first.label}  ${first.digest.slice(0, 12)}`,
    `${second.label}  ${second.digest.slice(0, 12)}`,
    ...(sameBase ? [] : ['the versions belong to different bases']),
    ...section('settings', [
      ['setting', first.label, second.label],
      ...settings.map((change) => [change.name, shown(change.first), shown(change.second)]),
    ]),
    ...section('metrics', [
      ['metric', first.label, second.label, 'change'],
      ...metrics.map((change) => [
        figureName(change.name),
        shown(change.first),
        shown(change.second),
        change.first === null || change.second === null ? '-' : changeOf(change.first, change.second),
      ]),
    ]),
    ...(sameHeldOut === false
      ? [
          'the held-out losses were measured on different rows, so their difference may come from the data',
          `measure both on the same data: ${SWARM} evaluate --model MODEL --adapter ${first.label} --against ${second.label} --data FILE`,
        ]
      : []),
    ...section('change of the weights', [
      [all ? 'module' : 'layer', 'norm 1', 'norm 2', 'difference', 'cosine', 'eff. rank 1', 'eff. rank 2'],
      ...rows.map(({ name, norm, difference, cosine, effectiveRank }) => [
        name,
        norm[0].toPrecision(4),
        norm[1].toPrecision(4),
        difference.toPrecision(4),
        cosine === null ? '-' : cosine.toFixed(4),
        effectiveRank[0].toFixed(2),
        effectiveRank[1].toFixed(2),
      ]),
    ]),
  ];
}

function shown(value: unknown): string {
  return value === null ? '-' : String(typeof value === 'number' ? rounded(value) : value);
}

/** Formats a change of a metric. Counts, such as the number of rounds, change by whole numbers. */
function changeOf(first: number, second: number): string {
  const isWhole = Number.isInteger(first) && Number.isInteger(second);
  return formatChange(second - first, isWhole ? 0 : 4);
}

/**
 * Combines the modules of each layer into one comparison. Norms and the cosine are computed over the entries of all
 * modules of the layer. The effective rank is the mean over these modules.
 */
function byLayer(modules: readonly ModuleComparison[]): Omit<ModuleComparison, 'rank'>[] {
  const layers = new Map<string, ModuleComparison[]>();
  for (const module of modules) {
    const layer = /^(.*?\.\d+)\./.exec(module.name)?.[1] ?? module.name;
    layers.set(layer, [...(layers.get(layer) ?? []), module]);
  }
  const root = (values: readonly number[]): number =>
    Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const summed = [...layers].map(([name, parts]) => {
    const norm = [root(parts.map((part) => part.norm[0])), root(parts.map((part) => part.norm[1]))] as const;
    const product = parts.reduce((sum, part) => sum + (part.cosine ?? 0) * part.norm[0] * part.norm[1], 0);
    return {
      name,
      norm,
      difference: root(parts.map((part) => part.difference)),
      cosine: norm[0] > 0 && norm[1] > 0 ? product / (norm[0] * norm[1]) : null,
      effectiveRank: [
        mean(parts.map((part) => part.effectiveRank[0])),
        mean(parts.map((part) => part.effectiveRank[1])),
      ] as const,
    };
  });
  const numberOf = ({ name }: { name: string }): number => Number(/\.(\d+)$/.exec(name)?.[1] ?? -1);
  return summed.sort((a, b) => numberOf(a) - numberOf(b));
}
