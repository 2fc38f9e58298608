import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { compare } from '../../../../../lora/evaluate/compare/compare.ts';
import type { LanguageModel } from '../../../../../lora/evaluate/model/language-model.ts';
import { parseLossCurve, readLossCurve } from '../../../../../lora/evaluate/report/loss-curve.ts';
import { writeReport } from '../../../../../lora/evaluate/report/write-report.ts';
import { runTasks, type TaskEvaluation } from '../../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { Task } from '../../../../../lora/evaluate/tasks/task.ts';
import { TaskFile } from '../../../../../lora/evaluate/tasks/task-file.ts';

const HOSTILE = '<script>alert(1)</script>"\u001b[2J| [x](y)';

let dir: string;
let evaluation: TaskEvaluation;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'report-'));
  const rows = Array.from({ length: 40 }, (_, i) => ({
    q: `${HOSTILE} ${i}`,
    right: 'good',
    wrong: HOSTILE,
  }));
  await writeFile(join(dir, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  await writeFile(
    join(dir, 'pick.yaml'),
    `task: pick
task_alias: "<b>pick</b>"
dataset_path: json
dataset_kwargs: { data_files: { test: rows.jsonl } }
test_split: test
output_type: multiple_choice
doc_to_text: q
doc_to_choice: "{{[right, wrong]}}"
doc_to_target: 0
metric_list: [{ metric: acc }]
`,
  );
  const task = await Task.load(await TaskFile.read(join(dir, 'pick.yaml')));
  const choosing = (isRight: (i: number) => boolean): LanguageModel => ({
    likelihoods: async (requests) =>
      requests.map(({ continuation }, i) => ({
        logLikelihood: (continuation === ' good') === isRight(i >> 1) ? -1.5 : -2,
        isGreedy: false,
      })),
    rollingLikelihoods: async () => [],
    generate: async () => [],
  });
  const model = await runTasks(
    { tasks: [task], groups: [] },
    choosing((i) => i < 30),
  );
  const against = await runTasks(
    { tasks: [task], groups: [] },
    choosing((i) => i % 4 === 0),
  );
  evaluation = { ...model, against, comparison: compare(model.evaluated, against.evaluated) };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const facts = {
  date: new Date('2026-11-27T18:00:00.123Z'),
  version: '1.2.3',
  model: { base: 'org/base', adapter: 'moby' },
  against: { base: 'org/base', adapter: null },
  lossCurve: parseLossCurve(
    '{"event":"plan","heldOutLoss":4}\n{"event":"step","step":1,"loss":3.5}\nnot JSON\n{"event":"evaluated","step":2,"heldOutLoss":3}',
  ),
};

async function written(ending: string, { base = 'org/base', other = evaluation } = {}): Promise<string> {
  const folder = await mkdtemp(join(dir, 'out-'));
  const files = await writeReport(folder, other, { ...facts, model: { base, adapter: 'moby' } });
  return readFile(files.find((file) => file.endsWith(ending))!, 'utf8');
}

describe('a report', () => {
  it('says on which tasks the model is better', () => {
    expect(evaluation.comparison!.summary).toMatch(/^better\b.*\bpick\b.*\b50\.0 points \(acc\)$/);
    expect(evaluation.comparison!.metrics[0]).toMatchObject({
      value: 0.75,
      against: 0.25,
      verdict: 'better',
    });
  });

  it('has a page without scripts, in which the text of data is escaped', async () => {
    const page = await written('.html');
    expect(page).not.toMatch(/<script|<b>pick/);
    expect(page).not.toContain('\u001b');
    expect(page).toContain('&lt;script&gt;');
    expect(page).toContain("default-src 'none'");
    expect(page).toContain('<polyline class="held-out"');
    expect(page.match(/class="right"/g)!.length).toBeGreaterThanOrEqual(5);
  });

  it('has a card with the figures in its front matter', async () => {
    const card = await written('.md');
    const [, head = ''] = card.split('---\n');
    const { base_model, 'model-index': index } = parse(head);
    expect(base_model).toBe('org/base');
    expect(index[0].results[0].metrics).toEqual([{ type: 'acc', value: 0.75, name: 'acc' }]);
    expect(card).toMatch(/\bBetter\b.*\bpick\b/);
    expect(card.slice(head.length + 8)).not.toMatch(/(?<!\\)</);
  });

  it('has a card without the folders of this machine, and without a base that the hub would refuse', async () => {
    const local = await written('.md', { base: '/home/ada/models/nano' });
    expect(parse(local.split('---\n')[1]!)).not.toHaveProperty('base_model');
    expect(local).toMatch(/^A .*\bnano\b/m);
    expect(local).not.toContain('/home/ada');
    // A folder of this repository, whose path could also be the name of a repository on the hub.
    const folder = await written('.md', { base: 'models/nano' });
    const { base_model, tags } = parse(folder.split('---\n')[1]!);
    expect([base_model, tags]).toEqual([undefined, ['lora']]);
    expect(folder).toMatch(/^A .*\bnano\b/m);
    const commit = 'a'.repeat(40);
    const cached = await written('.md', { base: `/cache/models--org--base/snapshots/${commit}` });
    expect(parse(cached.split('---\n')[1]!).base_model).toBe('org/base');
  });

  it('says on which tasks the model is worse', async () => {
    const { against, evaluated } = evaluation;
    const reverse = compare(against!.evaluated, evaluated);
    expect(reverse.summary).toMatch(/^worse\b.*\bpick\b.*\b50\.0 points \(acc\)$/);
    const worse = { ...evaluation, ...against!, against: evaluation, comparison: reverse };
    expect(await written('.md', { other: worse })).toMatch(/\bWorse\b.*\bpick\b/);
  });

  it('has the answers to all documents, and the losses of the run', async () => {
    const lines = (await written('.123.jsonl')).trim().split('\n');
    expect(lines).toHaveLength(40);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      doc_id: 0,
      resps: [[['-1.5', 'False']], [['-2.0', 'False']]],
      target: '0',
      acc: 1,
    });
    const report = JSON.parse(await written('.123.json'));
    expect(report.lossCurve).toEqual({
      training: [{ step: 1, loss: 3.5 }],
      heldOut: [
        { step: 0, loss: 4 },
        { step: 2, loss: 3 },
      ],
    });
  });

  it('overwrites nothing', async () => {
    await writeReport(join(dir, 'twice'), evaluation, facts);
    await expect(writeReport(join(dir, 'twice'), evaluation, facts)).rejects.toMatchObject({
      code: 'EEXIST',
    });
  });

  it('refuses a log without losses', async () => {
    await expect(readLossCurve(join(dir, 'pick.yaml'))).rejects.toMatchObject({ code: 'EVALUATE_LOG' });
    await expect(readLossCurve(join(dir, 'missing'))).rejects.toMatchObject({ code: 'EVALUATE_LOG' });
  });
});
