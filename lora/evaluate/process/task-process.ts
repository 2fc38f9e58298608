import type { SwarmError } from '../../../common/errors.ts';
import { ChildCalls, type ChildEnd } from '../../../common/workers/child-process.ts';
import { entryOf } from '../../../common/workers/entry.ts';
import { graphProcessEnvironment } from '../../engines/allocator.ts';
import { evaluateError } from '../errors.ts';
import type { FlatFigures, TaskProcessMethods, TaskProcessRequest } from './messages.ts';

/**
 * Evaluates an adapter on tasks, in a process that ends afterwards.
 * @throws SwarmError TASK_*, DATA_*, MODEL_*, ADAPTER_*, ENGINE_*, TASKS_DIED; the signal's reason
 */
export async function evaluateInProcess(
  request: TaskProcessRequest,
  { signal, onLog }: { signal: AbortSignal; onLog?: (line: string) => void },
): Promise<FlatFigures> {
  signal.throwIfAborted();
  const child = new ChildCalls<TaskProcessMethods>(entryOf(import.meta, './process'), {
    env: graphProcessEnvironment(),
    ...(onLog && { onLog }),
    ended: died,
  });
  return child.callOnce('evaluate', request, signal);
}

function died({ code, signal, stderr, cause }: ChildEnd): SwarmError {
  const how = signal !== null ? `was killed by ${signal}` : `exited with code ${code}`;
  return evaluateError(
    'TASKS_DIED',
    `the process that evaluates tasks ${how}`,
    { code, signal, stderr },
    { cause },
  );
}
