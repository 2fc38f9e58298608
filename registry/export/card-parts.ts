/** Parts of model cards in Markdown. */
import { stringify } from 'yaml';
import { countOf, figureName, formatLoss, lossPicture, rounded } from '../../common/text.ts';
import { parseHubReference } from '../../lora/models/hub/reference.ts';
import { VERSION_CURVE, type VersionManifest } from '../../protocol/version-manifest.ts';

/** The metrics of one source: the run or job that made the version, or a later measurement. */
export interface Results {
  readonly dataset: string;
  readonly metrics: Readonly<Record<string, number>>;
}

/** Form of the exported weights. */
export type ExportForm = 'adapter' | 'merged' | 'gguf-adapter' | 'gguf-merged';

/** Phrases that describe the content of an exported folder. */
const WHAT: Readonly<Record<ExportForm, (base: string) => string>> = {
  adapter: (base) => `A LoRA adapter for ${base}`,
  merged: (base) => `The model ${base} with a LoRA adapter added to its weights`,
  'gguf-adapter': (base) => `A LoRA adapter for ${base} as GGUF`,
  'gguf-merged': (base) => `The model ${base} with a LoRA adapter added to its weights, as GGUF`,
};

/** Library that loads the weights, and their relation to the base, in the words of the Hugging Face hub. */
const HUB_WORDS: Readonly<Record<ExportForm, { library: string; relation: string }>> = {
  adapter: { library: 'peft', relation: 'adapter' },
  merged: { library: 'transformers', relation: 'finetune' },
  'gguf-adapter': { library: 'gguf', relation: 'adapter' },
  'gguf-merged': { library: 'gguf', relation: 'finetune' },
};

/**
 * Returns the lines of the front matter that the Hugging Face hub reads, with the metrics as `model-index`.
 * @param base name of the base; null if the base has no name
 */
export function frontMatter(
  name: string,
  base: string | null,
  all: readonly Results[],
  form: ExportForm = 'adapter',
): string[] {
  const hub = base === null ? null : parseHubReference(base);
  const { library, relation } = HUB_WORDS[form];
  const front = {
    library_name: library,
    pipeline_tag: 'text-generation',
    // Name the base only if it is a repository on the hub, because the hub refuses a card with any other
    // base_model.
    ...(hub !== null && { base_model: hub.name, base_model_relation: relation }),
    tags: ['lora', 'lora-swarm', ...(hub === null ? [] : [`base_model:${relation}:${hub.name}`])],
    ...(all.length > 0 && { 'model-index': [{ name, results: all.map(indexed) }] }),
  };
  return ['---', stringify(front, { lineWidth: 0 }).trimEnd(), '---', ''];
}

/** Returns an entry of `model-index`. */
function indexed({ dataset, metrics }: Results) {
  return {
    task: { type: 'text-generation' },
    dataset: { type: typeOf(dataset), name: dataset },
    metrics: Object.entries(metrics).map(([name, value]) => ({
      type: typeOf(name),
      name,
      value: rounded(value),
    })),
  };
}

/** Converts a text to an identifier, because the hub expects types to be identifiers. */
function typeOf(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_.-]+/g, '_');
}

/** Returns a row for each metric, for a table with the columns data, metric and value. */
export function resultRows(all: readonly Results[]): (readonly [string, string, number])[] {
  return all.flatMap(({ dataset, metrics }) =>
    Object.entries(metrics).map(([name, value]) => [dataset, figureName(name), rounded(value)] as const),
  );
}

/** Returns the lines of a section with a table; none if the table has no rows. */
export function table(
  title: string,
  head: readonly string[],
  rows: readonly (readonly unknown[])[],
): string[] {
  if (rows.length === 0) return [];
  const line = (cells: readonly unknown[]): string =>
    `| ${cells.map((cell) => cardText(String(cell))).join(' | ')} |`;
  return [`## ${title}`, '', line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line), ''];
}

/**
 * Returns the phrase that a card begins with, which names the base.
 * @param base name and hub commit of the base; the name is null if the base has none
 */
export function description(
  form: ExportForm,
  base: { name: string | null; revision: string | null },
): string {
  if (base.name === null) return WHAT[form]('a base without a name');
  const revision = base.revision === null ? '' : ` at commit \`${base.revision}\``;
  return WHAT[form](`\`${cardText(base.name)}\`${revision}`);
}

/**
 * Returns the list item of the base: where users get it, and its digest.
 * @param base name and digest of the base; the name is null if the base has none
 */
export function baseItem({ name, digest }: { name: string | null; digest: string }): string {
  const hub = name === null ? null : parseHubReference(name);
  const what =
    hub !== null
      ? `[${hub.name}](https://huggingface.co/${hub.name}) on the Hugging Face hub`
      : name === null
        ? 'a model without a name'
        : `\`${cardText(name)}\`, the name of its folder; it did not come from the Hugging Face hub`;
  return `- base: ${what}; digest \`${digest}\``;
}

/**
 * Draws held-out losses as text, and lists them. Returns no lines if there are fewer than two losses.
 * @param unit the unit of `at`
 * @param count number of losses that the training has, of which the curve may be a part; null if it is unknown
 */
export function curveLines(
  curve: NonNullable<VersionManifest['curve']>,
  unit: 'round' | 'step',
  count: number | null,
): string[] {
  if (curve.length < 2) return [];
  const shown =
    count === null
      ? `at most ${VERSION_CURVE} losses, spread evenly over the training`
      : `${curve.length === count ? 'all' : `${curve.length} of`} ${countOf(count, 'checkpoint')}`;
  const picture = lossPicture(curve.map(({ at, loss }) => ({ label: String(at), loss })));
  return [
    '## Loss curve',
    '',
    `The held-out loss in nats per token, by ${unit} (${shown}):`,
    '',
    '```',
    ...picture,
    '```',
    '',
    ...table(
      'Losses',
      [unit, 'held-out loss'],
      curve.map(({ at, loss }) => [at, formatLoss(loss)]),
    ),
  ];
}

/** Returns the lines of a section about the roll-backs of a job; none if there was none. */
export function rollBackLines(rollBacks: NonNullable<VersionManifest['rollBacks']>): string[] {
  if (rollBacks.length === 0) return [];
  const lines = rollBacks.map(
    ({ round, restores }) =>
      `- Round ${round} restores the adapter of round ${restores}. The adapter contains nothing of the rounds between them.`,
  );
  return ['## Roll-backs', '', ...lines, ''];
}

/** Returns a text without characters that mean something in Markdown tables, code, links and images. */
export function cardText(value: string): string {
  return (
    value
      .replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
      .replaceAll('|', '\\|')
      .replaceAll('`', "'")
      .replaceAll('<', '&lt;')
      // Write the bracket as a character reference. An escape by a backslash would fail after a backslash in
      // the text.
      .replaceAll('[', '&#91;')
  );
}
