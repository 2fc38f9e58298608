/** A model card in Markdown, whose front matter holds the figures as the Hugging Face hub reads them (`model-index`). */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { stringify } from 'yaml';
import { safeText } from '../../../common/text.ts';
import { hubOrigin, parseHubReference } from '../../models/hub/reference.ts';
import { comparisonCells, comparisonHead, FIGURE_HEAD, figureCells, figureList } from './figures.ts';
import type { ModelNames, Report } from './report.ts';

export function cardOf(report: Report): string {
  const { model, figures, against, comparison, date, version } = report;
  const name = nameOf(model);
  const lines = [
    '---',
    stringify(frontMatter(report), { lineWidth: 0 }).trimEnd(),
    '---',
    '',
    `# ${markdown(name)}`,
    '',
    model.adapter === null
      ? 'A base without an adapter.'
      : `A LoRA adapter for ${markdown(hubName(model.base) ?? basename(model.base))}.`,
    '',
    '## Evaluation',
    '',
    ...tableLines([FIGURE_HEAD, ...figureCells(figures)]),
    '',
  ];
  if (comparison !== null && against !== null) {
    lines.push(
      `## Compared with ${markdown(nameOf(against.model))}`,
      '',
      markdown(sentence(comparison.summary)),
      '',
      ...tableLines([comparisonHead(nameOf(against.model)), ...comparison.metrics.map(comparisonCells)]),
      '',
      'The 95 % interval of a change is computed from the differences on the same documents. A change is called *noise* if its p-value, corrected for the number of metrics in the table (Holm), is above 0.05.',
      '',
    );
  }
  lines.push(
    `Evaluated on ${date.slice(0, 10)} with lora-swarm ${markdown(version)}, with the tasks' keys and figures of lm-evaluation-harness 0.4.13.`,
  );
  return `${lines.join('\n')}\n`;
}

/** Returns a short name of a model: the name of the adapter or, if there is none, of the base. */
export function nameOf({ base, adapter }: ModelNames): string {
  return basename(adapter ?? base);
}

/** Turns a summary into a sentence. */
export function sentence(summary: string): string {
  return summary === '' ? '' : `${summary[0]!.toUpperCase()}${summary.slice(1)}.`;
}

/**
 * Returns the name of a base on the hub; null if it has none.
 * @param base a hub reference, a folder or a GGUF file. An existing folder or file takes precedence over a hub name
 */
function hubName(base: string): string | null {
  return (hubOrigin(base) ?? (existsSync(base) ? null : parseHubReference(base)))?.name ?? null;
}

function frontMatter({ model, figures, task_hashes }: Report): object {
  const isAdapter = model.adapter !== null;
  // The hub refuses a card whose base_model is not the name of a repository.
  const hub = isAdapter ? hubName(model.base) : null;
  return {
    ...(isAdapter && { library_name: 'peft' }),
    ...(hub !== null && { base_model: hub, base_model_relation: 'adapter' }),
    pipeline_tag: 'text-generation',
    tags: [isAdapter ? 'lora' : 'lora-swarm', ...(hub === null ? [] : [`base_model:adapter:${hub}`])],
    'model-index': [
      {
        name: nameOf(model),
        results: Object.entries(Object.groupBy(figureList(figures), ({ task }) => task)).map(
          ([task, list = []]) => ({
            task: { type: 'text-generation', name: 'Text generation' },
            dataset: {
              type: task,
              name: list[0]!.alias,
              ...(task_hashes[task] !== undefined && { revision: task_hashes[task].slice(0, 16) }),
            },
            metrics: list.map(({ metric, filter, value }) => ({
              type: metric,
              value,
              name: filter === 'none' ? metric : `${metric} (${filter})`,
            })),
          }),
        ),
      },
    ],
  };
}

function tableLines(rows: readonly (readonly string[])[]): string[] {
  const [head, ...body] = rows.map((row) => `| ${row.map(markdown).join(' | ')} |`);
  return [head!, `|${rows[0]!.map(() => '---|').join('')}`, ...body];
}

/** Escapes text for Markdown, so that names of tasks and models add no markup or links. */
function markdown(text: string): string {
  return safeText(text, { maxCharacters: 2000 }).replace(
    /[\\`*_{}[\]<>#|!~]/g,
    (character) => `\\${character}`,
  );
}
