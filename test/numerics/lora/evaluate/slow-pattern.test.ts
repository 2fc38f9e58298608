import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { loadTasks, runTasks } from '../../../../lora/evaluate/tasks/evaluate-tasks.ts';

it('stops a regular expression that takes too long', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'slow-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'rows.jsonl'), '{"q":"a"}\n');
  await writeFile(
    join(dir, 'slow.yaml'),
    `dataset_path: json
dataset_kwargs: { data_files: { test: rows.jsonl } }
test_split: test
doc_to_text: q
doc_to_target: q
filter_list: [{ name: slow, filter: [{ function: regex, regex_pattern: '(a+)+$' }, { function: take_first }] }]
`,
  );
  const model = {
    likelihoods: async () => [],
    rollingLikelihoods: async () => [],
    generate: async () => [`${'a'.repeat(60)}!`],
  };
  const run = runTasks(await loadTasks({ tasks: [join(dir, 'slow.yaml')] }), model);
  await expect(run).rejects.toMatchObject({ code: 'TASK_FILE' });
});
