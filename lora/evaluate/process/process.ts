/**
 * Entry of a process that evaluates an adapter on tasks, or generates samples with it. The engine blocks the
 * thread in which it computes. In a separate process, it does not delay the messages of a coordinator.
 */
import { constants, setPriority } from 'node:os';
import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { evaluateError } from '../errors.ts';
import { languageModelOf } from '../model/bundle-model.ts';
import { openModel } from '../model-bundle.ts';
import { answerQuestions, encodeAnswers } from '../questions/answers.ts';
import { decodeQuestions, encodeQuestions } from '../questions/questions.ts';
import { evaluateTasks, loadTasks } from '../tasks/evaluate-tasks.ts';
import { flatFigures } from '../tasks/flat-figures.ts';
import { checkAnswers } from './check-answers.ts';
import type { TaskProcessMethods } from './messages.ts';
import { generateSamples } from './samples.ts';

/**
 * Nice value of the process. The priority is low, because no round waits for tasks or samples. Rounds wait for the gate,
 * which computes in another process.
 */
const NICE = 10;

lowerPriority(NICE);

function lowerPriority(nice: number): void {
  try {
    setPriority(nice);
  } catch {
    // Some systems refuse to change the priority. The evaluation then competes with the gate, but its figures
    // are the same.
  }
}

serveCalls<TaskProcessMethods>(
  {
    evaluate: async ({ tasks, limit, ...model }, { signal }) => {
      const bundle = await openModel({ ...model, signal });
      const { figures } = await evaluateTasks(bundle, { tasks, limit: limit ?? undefined, signal });
      return flatFigures(figures);
    },
    sample: async (request, { signal }) => generateSamples(request, signal),
    questions: async ({ tasks, limit }, { signal }) => {
      const loaded = await loadTasks({ tasks, limit: limit ?? undefined, signal });
      return encodeQuestions(loaded.tasks);
    },
    answer: async ({ questions, isPolite, ...model }, { signal, onProgress }) => {
      if (isPolite) lowerPriority(constants.priority.PRIORITY_LOW);
      const asked = decodeQuestions(questions);
      const bundle = await openModel({ ...model, signal });
      const report = (done: number, total: number): void => onProgress({ done, total });
      const answers = await answerQuestions(languageModelOf(bundle), asked, { signal, onProgress: report });
      return encodeAnswers(answers);
    },
    check: async (request, { signal }) => checkAnswers(request, signal),
  },
  {
    channel: parentChannel(),
    failed: (message, options) => evaluateError('TASKS_FAILED', message, {}, options),
  },
);
