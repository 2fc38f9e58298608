import type { Measurement } from '../store/versions.ts';
import type { AdapterVersion } from '../version.ts';
import { frontMatter, type Results, resultRows, table, cardText as text } from './card-parts.ts';

/** Name of the model card in an exported folder. */
export const CARD_FILE = 'README.md';

/** Metrics of a run that say how good the adapter is. The card leaves out other metrics, such as the duration. */
const QUALITY: ReadonlySet<string> = new Set(['heldOutLoss', 'heldOutLossBefore']);

/**
 * Returns the model card of a version: the front matter that the Hugging Face hub reads (`model-index` with the metrics), and
 * tables for people.
 */
export function modelCard(version: AdapterVersion, measurements: readonly Measurement[]): string {
  const { label, digest, author, manifest, name } = version;
  const { base, parents, job, data, settings } = manifest;
  const all = resultsOf(version, measurements);
  const revision = base.revision === null ? '' : ` at commit \`${base.revision}\``;
  const lines = [
    ...frontMatter(name, base.name, all),
    `# ${name}`,
    '',
    `A LoRA adapter for ${base.name === null ? 'the base' : `\`${text(base.name)}\`${revision}`}, version \`${label}\` of a lora-swarm registry.`,
    '',
    `- base digest: \`${base.digest}\``,
    `- version digest: \`${digest}\`, signed by \`${author}\``,
    ...(job === null ? [] : [`- job: \`${job.name}\`, round ${job.round}, \`${job.digest}\``]),
    ...parents.map(
      (parent) =>
        `- made from \`${text(parent.label)}\` (${parent.method}, weight ${parent.weight}), \`${parent.digest}\``,
    ),
    ...data.map((part) => `- data: ${text(part.name)}, \`${part.digest}\``),
    '',
    ...table('Results', ['data', 'metric', 'value'], resultRows(all)),
    ...table(
      'Settings',
      ['setting', 'value'],
      Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function resultsOf({ manifest }: AdapterVersion, measurements: readonly Measurement[]): Results[] {
  const own = Object.entries(manifest.metrics).filter(([name]) => QUALITY.has(name));
  const later = measurements.map(({ source, metrics }) => ({ dataset: source, metrics }));
  return [
    ...(own.length > 0 ? [{ dataset: 'held-out data', metrics: Object.fromEntries(own) }] : []),
    ...later,
  ];
}
