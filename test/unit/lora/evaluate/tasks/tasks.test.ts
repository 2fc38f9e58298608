import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LanguageModel } from '../../../../../lora/evaluate/model/language-model.ts';
import { loadTasks, runTasks } from '../../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { groupFigures } from '../../../../../lora/evaluate/tasks/group.ts';
import { Task } from '../../../../../lora/evaluate/tasks/task.ts';
import { TaskFile } from '../../../../../lora/evaluate/tasks/task-file.ts';
import { temporaryFolder } from '../../../../utils/folder.ts';

interface GroupCase {
  sizes: number[];
  weigh: boolean;
  values: number[];
  errors: number[];
  value: number;
  stderr: number;
}

const parts = JSON.parse(
  readFileSync(new URL('../../../../fixtures/lm-eval/parts.json', import.meta.url), 'utf8'),
);

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tasks-'));
  const rows = ['a', 'b', 'c', 'd'].map((q, i) => ({ q, n: i, a: `answer ${q}`, choices: ['x', 'yy'] }));
  await writeFile(join(dir, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  await writeFile(join(dir, 'deep.jsonl'), `{"q":"a"}\n{"q":${'['.repeat(600)}${']'.repeat(600)}}\n`);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const DATA = `dataset_path: json
dataset_kwargs: { data_files: { test: rows.jsonl } }
test_split: test
`;
const CHOICES = `${DATA}output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: "{{n % 2}}"
`;

/** A model that prefers long continuations, and answers with the end of the prompt. */
const model: LanguageModel = {
  likelihoods: async (requests) =>
    requests.map(({ continuation }) => ({ logLikelihood: continuation.length - 9, isGreedy: false })),
  rollingLikelihoods: async (texts) => texts.map((text) => -text.length),
  generate: async (requests) => requests.map(({ prompt }) => ` ${prompt.slice(-8)}!`),
};

async function load(text: string, options = {}): Promise<Task> {
  const file = join(dir, 'task.yaml');
  await writeFile(file, text);
  return Task.load(await TaskFile.read(file), options);
}

describe('a task file is refused', () => {
  it.each([
    [`${CHOICES}process_docs: !function utils.process\n`, 'TASK_UNSUPPORTED', '!function utils.process', 8],
    [`${CHOICES}use_prompt: x\n`, 'TASK_UNSUPPORTED', 'use_prompt', 8],
    [`${CHOICES}metric_list: [{ metric: brier_score }]\n`, 'TASK_UNSUPPORTED', 'brier_score', 8],
    [`${CHOICES}metric_list: [{ metric: acc, aggregation: bleu }]\n`, 'TASK_FILE', 'bleu', 8],
    [
      `${CHOICES}filter_list: [{ name: f, filter: [{ function: custom }] }]\n`,
      'TASK_UNSUPPORTED',
      'take_first',
      8,
    ],
    [`${CHOICES}fewshot_config: { sampler: balanced }\n`, 'TASK_UNSUPPORTED', 'balanced', 8],
    [`${CHOICES}generation_kwargs: { temperature: 0.7 }\n`, 'TASK_UNSUPPORTED', 'sampling', 8],
    [`${CHOICES}num_fewshot: 9\n`, 'TASK_FILE', '9 documents', 8],
    [`${CHOICES}doc_to_text: [\n`, 'TASK_FILE', 'YAML', null],
    [CHOICES.replace('json', 'cais/mmlu'), 'TASK_UNSUPPORTED', 'cais/mmlu', 1],
    [CHOICES.replace('test_split: test', 'test_split: dev'), 'TASK_FILE', 'dev', 3],
    [CHOICES.replace('rows.jsonl', 'deep.jsonl'), 'TASK_DATA', 'deep.jsonl:2', null],
    [CHOICES.replace('{{q}}', '{{missing}}'), 'TASK_DOCUMENT', 'missing', 5],
    [CHOICES.replace('choices', 'q'), 'TASK_DOCUMENT', 'list', 6],
    [`include: task.yaml\n${CHOICES}`, 'TASK_FILE', 'itself', null],
  ])('%#', async (text, code, fact, line) => {
    const error = await load(text).catch((cause: Error) => cause);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toContain(fact);
    if (line !== null) expect((error as Error).message).toContain(`task.yaml:${line}`);
  });
});

it('answers with the figures of each metric and filter', async () => {
  const task = await load(`${CHOICES}task: pick\nmetric_list: [{ metric: acc }, { metric: acc_norm }]\n`);
  const { figures } = await runTasks({ tasks: [task], groups: [] }, model);
  expect(figures.results.pick).toMatchObject({
    alias: 'pick',
    sample_len: 4,
    'acc,none': 0.5,
    'acc_norm,none': 0.5,
  });
  expect(figures.results.pick!['acc_stderr,none']).toBeCloseTo(0.288675, 6);
  expect(figures['n-samples'].pick).toEqual({ original: 4, effective: 4 });
  expect(figures.higher_is_better.pick).toEqual({ acc: true, acc_norm: true });
});

it('evaluates the first documents, and reports progress', async () => {
  const task = await load(CHOICES, { limit: 3 });
  expect([task.documents, task.total, task.requests]).toEqual([3, 4, 6]);
  const seen: number[] = [];
  await runTasks({ tasks: [task], groups: [] }, model, {
    onProgress: ({ done, total }) => seen.push(done, total),
  });
  expect(seen).toEqual([0, 6]);
});

it('extracts answers with filters', async () => {
  const task = await load(`${DATA}task: write
doc_to_text: "say answer {{q}}"
doc_to_target: a
filter_list:
  - { name: whole, filter: [{ function: take_first }] }
  - { name: word, filter: [{ function: regex, regex_pattern: '(\\w+) (\\w)' }, { function: take_first }] }
  - { name: clean, filter: [{ function: remove_whitespace }, { function: map, mapping_dict: { 'answer a!': 'answer a' }, default_value: none }, { function: take_first }] }
metric_list: [{ metric: exact_match, ignore_punctuation: true }]
`);
  const { figures, evaluated } = await runTasks({ tasks: [task], groups: [] }, model);
  expect(figures.results.write).toMatchObject({
    'exact_match,whole': 0,
    'exact_match,word': 0,
    'exact_match,clean': 0.25,
  });
  expect(evaluated[0]!.documents.map(({ answer }) => answer).slice(3, 6)).toEqual([
    ' answer d!',
    'answer',
    'answer',
  ]);
});

it('draws examples that are not the document itself', async () => {
  const task = await load(`${DATA}fewshot_split: test
num_fewshot: 3
output_type: loglikelihood
doc_to_text: "{{q}}"
doc_to_target: "{{' ' + a}}"
`);
  const results = await task.evaluate(model);
  for (const { document, requests } of results) {
    const prompt = requests[0]![0];
    expect(prompt.split('\n\n')).toHaveLength(4);
    expect(prompt).not.toContain(`answer ${document.q}`);
  }
});

describe('a group', () => {
  const member = (name: string, count: number) =>
    `${CHOICES}task: ${name}\nmetric_list: [{ metric: acc }]\nnum_fewshot: ${count}\n`;

  it('has the means of its tasks', async () => {
    await writeFile(join(dir, 'first.yaml'), member('first', 0));
    await writeFile(join(dir, 'second.yaml'), member('second', 0));
    await writeFile(
      join(dir, 'both.yaml'),
      'group: both\ntask: [first, second]\naggregate_metric_list: [{ metric: acc }]\n',
    );
    const loaded = await loadTasks({ tasks: [join(dir, 'both.yaml')] });
    const { figures } = await runTasks(loaded, model);
    expect(figures.results.both).toMatchObject({ sample_len: 8, 'acc,none': 0.5 });
    expect(figures.groups).toEqual({ both: figures.results.both });
    expect(figures.group_subtasks).toEqual({ both: ['first', 'second'] });
    expect([figures['n-shot'].both, figures.higher_is_better.both]).toEqual([0, { acc: true }]);
    await expect(
      loadTasks({ tasks: [join(dir, 'both.yaml'), join(dir, 'task.yaml')] }),
    ).resolves.toBeDefined();
    await writeFile(join(dir, 'task.yaml'), member('both', 0));
    const twice = loadTasks({ tasks: [join(dir, 'both.yaml'), join(dir, 'task.yaml')] });
    await expect(twice).rejects.toMatchObject({ code: 'TASK_FILE', values: { task: 'both' } });
  });

  it('names a task without a file', async () => {
    await writeFile(join(dir, 'none.yaml'), 'group: none\ntask: [nowhere]\n');
    await expect(loadTasks({ tasks: [join(dir, 'none.yaml')] })).rejects.toMatchObject({
      code: 'TASK_FILE',
      message: expect.stringMatching(/none\.yaml:2: task\b.*\bnowhere\.yaml\b/),
    });
  });

  it.each(parts.groups as GroupCase[])('of $sizes documents has the figures of lm-eval', (expected) => {
    const tasks = expected.values.map((value, i) => ({
      name: `${i}`,
      alias: `${i}`,
      sample_len: expected.sizes[i]!,
      'acc,none': value,
      'acc_stderr,none': expected.errors[i]!,
    }));
    const metrics = [{ metric: 'acc', filters: null, weightBySize: expected.weigh }];
    const figures = groupFigures({ name: 'g', alias: 'g', version: 1, files: [], metrics }, tasks);
    expect(figures['acc,none']).toBeCloseTo(expected.value, 14);
    expect(figures['acc_stderr,none']).toBeCloseTo(expected.stderr, 14);
  });
});

it('refuses a folder as a task file, and says how to name the files in it', async () => {
  const folder = await temporaryFolder();
  await expect(TaskFile.read(folder)).rejects.toMatchObject({
    code: 'TASK_FILE',
    next: expect.stringContaining(join(folder, '*.yaml')),
  });
});
