/** Writes a report and the results of all documents into a folder. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../../../common/files/folders.ts';
import type { ModelEvaluation, TaskEvaluation } from '../tasks/evaluate-tasks.ts';
import { cardOf } from './card.ts';
import { pageOf } from './page.ts';
import { makeReport, type ReportFacts } from './report.ts';
import { sampleLines } from './sample-lines.ts';

/**
 * Writes the report as `report_DATE.json`, `.md` and `.html`, the figures as lm-evaluation-harness's
 * `results_DATE.json`, and the results of each document as `samples_TASK_DATE.jsonl`, one file for each task. The files
 * of a second model (option `against`) begin with `samples-against`. No file is overwritten.
 * @returns the paths of the files
 * @throws SwarmError FOLDER_UNUSABLE; a system error if a file exists or cannot be written
 */
export async function writeReport(
  folder: string,
  evaluation: TaskEvaluation,
  facts: ReportFacts,
): Promise<string[]> {
  await makeFolder(folder, { next: 'choose another folder for the report' });
  const report = makeReport(evaluation, facts);
  const date = report.date.replace('Z', '').replaceAll(':', '-');
  const { figures, task_hashes, model } = report;
  const results = {
    ...figures,
    task_hashes,
    model_source: 'lora-swarm',
    model_name: model.adapter ?? model.base,
  };
  const files: [string, Iterable<string>][] = [
    [`report_${date}.json`, [`${JSON.stringify(report, null, 2)}\n`]],
    [`report_${date}.md`, [cardOf(report)]],
    [`report_${date}.html`, [pageOf(report)]],
    [`results_${date}.json`, [`${JSON.stringify(results, null, 2)}\n`]],
    ...samples('samples', evaluation, date),
    ...(evaluation.against === null ? [] : samples('samples-against', evaluation.against, date)),
  ];
  const paths: string[] = [];
  for (const [name, parts] of files) {
    const path = join(folder, name);
    await writeParts(path, parts);
    paths.push(path);
  }
  return paths;
}

function samples(prefix: string, { evaluated }: ModelEvaluation, date: string): [string, Iterable<string>][] {
  return evaluated.map((one) => {
    const task = one.task.config.name.replace(/["<>:/|\\?*[\]]+/g, '__');
    return [`${prefix}_${task}_${date}.jsonl`, sampleLines(one)];
  });
}

async function writeParts(path: string, parts: Iterable<string>): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    for (const part of parts) await handle.appendFile(part);
  } finally {
    await handle.close();
  }
}
