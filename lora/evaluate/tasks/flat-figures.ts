import type { FlatFigures } from '../process/messages.ts';
import type { TaskResults } from './results.ts';

/** Returns the figures of all tasks and groups under names such as `questions.exact_match,none`. */
export function flatFigures({ results }: Pick<TaskResults, 'results'>): FlatFigures {
  return Object.fromEntries(
    Object.entries(results).flatMap(([task, values]) =>
      Object.entries(values).flatMap(([key, value]) =>
        key.includes(',') && typeof value === 'number' ? [[`${task}.${key}`, value] as const] : [],
      ),
    ),
  );
}
