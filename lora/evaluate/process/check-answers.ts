import { sha256 } from '../../../protocol/cbor.ts';
import { evaluateError } from '../errors.ts';
import { languageModelOf } from '../model/bundle-model.ts';
import { openModel } from '../model-bundle.ts';
import { answeredModel, decodeAnswers } from '../questions/answers.ts';
import { encodeQuestions } from '../questions/questions.ts';
import { spotCheck } from '../questions/spot-check.ts';
import { loadTasks, runTasks } from '../tasks/evaluate-tasks.ts';
import { flatFigures } from '../tasks/flat-figures.ts';
import type { CheckedFigures, CheckRequest } from './messages.ts';

/**
 * Computes figures from the answers of another machine, and compares a few of these answers with the answers of a model
 * on this machine.
 * @throws SwarmError TASK_CHANGED if the task files now have other questions; TASK_ANSWERS, MESSAGE_*, TASK_*, DATA_*,
 * MODEL_*, ADAPTER_*, ENGINE_*; the signal's reason
 */
export async function checkAnswers(
  { tasks, limit, questions, answers, draws, ...model }: CheckRequest,
  signal: AbortSignal,
): Promise<CheckedFigures> {
  const loaded = await loadTasks({ tasks, limit: limit ?? undefined, signal });
  if (sha256(encodeQuestions(loaded.tasks)) !== questions) {
    throw evaluateError('TASK_CHANGED', 'the task files or their data changed during the evaluation', {
      files: tasks,
    });
  }
  const asked = loaded.tasks.reduce((sum, { texts }) => sum + texts.flat().length, 0);
  const sent = decodeAnswers(answers, asked);
  const { figures } = await runTasks(loaded, answeredModel(sent), { signal });
  const bundle = await openModel({ ...model, signal });
  const check = await spotCheck(loaded.tasks, sent, languageModelOf(bundle), { draws, signal });
  return { figures: flatFigures(figures), check };
}
