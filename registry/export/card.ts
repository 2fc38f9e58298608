import { stringify } from 'yaml';
import { parseHubReference } from '../../lora/models/hub/reference.ts';
import type { Measurement } from '../store/versions.ts';
import type { AdapterVersion } from '../version.ts';

/** Name of the model card in an exported folder. */
export const CARD_FILE = 'README.md';

/** The metrics of one source: the run or job that made the version, or a later measurement. */
interface Results {
  readonly dataset: string;
  readonly metrics: Readonly<Record<string, number>>;
}

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
  const hub = base.name === null ? null : parseHubReference(base.name);
  const front = {
    library_name: 'peft',
    pipeline_tag: 'text-generation',
    // The hub refuses a card whose base_model is not the name of a repository.
    ...(hub !== null && { base_model: hub.name, base_model_relation: 'adapter' }),
    tags: ['lora', 'lora-swarm', ...(hub === null ? [] : [`base_model:adapter:${hub.name}`])],
    ...(all.length > 0 && { 'model-index': [{ name, results: all.map(indexed) }] }),
  };
  const revision = base.revision === null ? '' : ` at commit \`${base.revision}\``;
  const lines = [
    '---',
    stringify(front, { lineWidth: 0 }).trimEnd(),
    '---',
    '',
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
    ...table('Results', ['data', 'metric', 'value'], rowsOf(all)),
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

/** Returns an entry of `model-index`. */
function indexed({ dataset, metrics }: Results) {
  return {
    task: { type: 'text-generation' },
    dataset: { type: typeOf(dataset), name: dataset },
    metrics: Object.entries(metrics).map(([name, value]) => ({ type: typeOf(name), name, value })),
  };
}

/** Converts a text to an identifier, because the hub expects types to be identifiers. */
function typeOf(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]+/g, '_');
}

function rowsOf(all: readonly Results[]): (readonly [string, string, number])[] {
  return all.flatMap(({ dataset, metrics }) =>
    Object.entries(metrics).map(([name, value]) => [dataset, name, value] as const),
  );
}

function table(title: string, head: readonly string[], rows: readonly (readonly unknown[])[]): string[] {
  if (rows.length === 0) return [];
  const line = (cells: readonly unknown[]): string =>
    `| ${cells.map((cell) => text(String(cell))).join(' | ')} |`;
  return [`## ${title}`, '', line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line), ''];
}

/** Returns a text without characters that mean something in Markdown tables and code. */
function text(value: string): string {
  return value
    .replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
    .replaceAll('|', '\\|')
    .replaceAll('`', "'")
    .replaceAll('<', '&lt;');
}
