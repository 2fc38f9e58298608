/**
 * Entry of a process that evaluates an adapter on tasks, or generates samples with it. The engine blocks the
 * thread in which it computes. In a separate process, it does not delay the messages of a coordinator.
 */
import { setPriority } from 'node:os';
import { serveCalls } from '../../../common/workers/calls.ts';
import { parentChannel } from '../../../common/workers/entry.ts';
import { evaluateError } from '../errors.ts';
import { openModel } from '../model-bundle.ts';
import { evaluateTasks } from '../tasks/evaluate-tasks.ts';
import { flatFigures } from '../tasks/flat-figures.ts';
import type { TaskProcessMethods } from './messages.ts';
import { generateSamples } from './samples.ts';

/**
 * Nice value of the process. The priority is low, because no round waits for tasks or samples. Rounds wait for the gate,
 * which computes in another process.
 */
const NICE = 10;

try {
  setPriority(NICE);
} catch {
  // Some systems refuse to change the priority. The evaluation then competes with the gate, but its figures
  // are the same.
}

serveCalls<TaskProcessMethods>(
  {
    evaluate: async ({ tasks, limit, ...model }, { signal }) => {
      const bundle = await openModel({ ...model, signal });
      const { figures } = await evaluateTasks(bundle, { tasks, limit: limit ?? undefined, signal });
      return flatFigures(figures);
    },
    sample: async (request, { signal }) => generateSamples(request, signal),
  },
  {
    channel: parentChannel(),
    failed: (message, options) => evaluateError('TASKS_FAILED', message, {}, options),
  },
);
