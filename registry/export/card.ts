import type { VersionManifest } from '../../protocol/version-manifest.ts';
import type { Registry } from '../registry.ts';
import type { AdapterVersion } from '../version.ts';
import {
  baseItem,
  curveLines,
  description,
  type ExportForm,
  frontMatter,
  type Results,
  resultRows,
  rollBackLines,
  table,
  cardText as text,
} from './card-parts.ts';

/** Name of the model card in an exported folder. */
export const CARD_FILE = 'README.md';

/** Metrics of a run that say how good the adapter is. The card leaves out other metrics, such as the duration. */
const QUALITY: ReadonlySet<string> = new Set(['heldOutLoss', 'heldOutLossBefore']);

/** What the model card of an adapter shows. */
export interface CardFacts
  extends Pick<
    VersionManifest,
    'name' | 'base' | 'parents' | 'job' | 'data' | 'settings' | 'metrics' | 'curve' | 'rollBacks'
  > {
  /** Label, digest and signer of the version; null if the adapter is not a version of a registry. */
  readonly version: Pick<AdapterVersion, 'label' | 'digest' | 'author'> | null;
  /** Metrics that were measured after the training. @default none */
  readonly measured?: readonly Results[];
}

/** Returns the model card of a version in a registry. */
export function versionCard(registry: Registry, version: AdapterVersion, form?: ExportForm): string {
  const measured = registry
    .measurements(version)
    .map(({ source, metrics }) => ({ dataset: source, metrics }));
  return modelCard({ ...version.manifest, version, measured }, form);
}

/**
 * Returns a model card: the front matter that the Hugging Face hub reads (`model-index` with the metrics), and tables for
 * people.
 */
export function modelCard(facts: CardFacts, form: ExportForm = 'adapter'): string {
  const { name, base, parents, job, data, settings, curve = [], rollBacks = [], version } = facts;
  const all = resultsOf(facts);
  const origin = version === null ? '' : `, version \`${version.label}\` in a lora-swarm registry`;
  const lines = [
    ...frontMatter(name, base.name, all, form),
    `# ${name}`,
    '',
    `${description(form, base)}${origin}.`,
    '',
    baseItem(base),
    ...(version === null ? [] : [`- version digest: \`${version.digest}\`, signed by \`${version.author}\``]),
    ...(job === null ? [] : [`- job: \`${job.name}\`, round ${job.round}, \`${job.digest}\``]),
    ...parents.map(
      (parent) =>
        `- made from \`${text(parent.label)}\` (${parent.method}, weight ${parent.weight}), \`${parent.digest}\``,
    ),
    ...data.map((part) => `- data: ${text(part.name)}, \`${part.digest}\``),
    '',
    ...table('Results', ['data', 'metric', 'value'], resultRows(all)),
    ...curveLines(curve, job === null ? 'step' : 'round', null),
    ...rollBackLines(rollBacks),
    ...table(
      'Settings',
      ['setting', 'value'],
      Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function resultsOf({ metrics, measured = [] }: CardFacts): Results[] {
  const own = Object.entries(metrics).filter(([name]) => QUALITY.has(name));
  return [
    ...(own.length > 0 ? [{ dataset: 'held-out data', metrics: Object.fromEntries(own) }] : []),
    ...measured,
  ];
}
