import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LanguageModel } from '../../../../../lora/evaluate/model/language-model.ts';
import { runTasks } from '../../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { Task } from '../../../../../lora/evaluate/tasks/task.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tasks-'));
  const rows = ['a', 'b', 'c', 'd'].map((q, i) => ({ q, n: i, a: `answer ${q}`, choices: ['x', 'yy'] }));
  await writeFile(join(dir, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
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
  return Task.load(file, options);
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
  const { figures } = await runTasks([task], model);
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
  await runTasks([task], model, { onProgress: ({ done, total }) => seen.push(done, total) });
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
  const { figures, evaluated } = await runTasks([task], model);
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
