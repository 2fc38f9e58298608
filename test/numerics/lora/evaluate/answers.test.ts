/** If a model sends its answers as bytes, the figures computed from them equal those of an evaluation in one step. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../../../common/package.ts';
import { nanoModel } from '../../../../common/samples.ts';
import { languageModelOf } from '../../../../lora/evaluate/model/bundle-model.ts';
import { openModel } from '../../../../lora/evaluate/model-bundle.ts';
import {
  answeredModel,
  answerQuestions,
  decodeAnswers,
  encodeAnswers,
} from '../../../../lora/evaluate/questions/answers.ts';
import { decodeQuestions, encodeQuestions } from '../../../../lora/evaluate/questions/questions.ts';
import { spotCheck } from '../../../../lora/evaluate/questions/spot-check.ts';
import { loadTasks, runTasks } from '../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { temporaryFolder } from '../../../utils/folder.ts';

test('answers give the same figures as the model itself, and pass their check', async () => {
  const cacheDir = await temporaryFolder();
  const bundle = await openModel({ base: nanoModel(), compute: { engine: 'onnx-cpu' }, cacheDir });
  const model = languageModelOf(bundle);
  const names = ['minimal-pairs', 'last-words', 'questions', 'chapters'];
  const tasks = names.map((name) => join(packageRoot(), 'examples', 'tasks', `${name}.yaml`));
  const loaded = await loadTasks({ tasks, limit: 5 });
  const questions = decodeQuestions(encodeQuestions(loaded.tasks));
  const answers = decodeAnswers(encodeAnswers(await answerQuestions(model, questions)));
  const { figures } = await runTasks(loaded, answeredModel(answers));
  expect(figures).toEqual((await runTasks(loaded, model)).figures);
  const draws = [0.1, 0.3, 0.6, 0.9];
  const check = await spotCheck(loaded.tasks, answers, model, {
    draws,
    signal: new AbortController().signal,
  });
  expect(check).toMatchObject({ documents: 4, otherChoices: 0 });
  expect(check.difference).toBeLessThan(1e-5);
});
