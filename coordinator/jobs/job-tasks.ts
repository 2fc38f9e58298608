import { chooseMetric } from '../../lora/evaluate/tasks/chosen-metric.ts';
import { loadTasks } from '../../lora/evaluate/tasks/evaluate-tasks.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import type { JobTasks } from '../store/store.ts';

/**
 * Reads the tasks of a new job with all their documents, so that a mistake in them is found before the job begins.
 * @returns null if the job has no tasks
 * @throws SwarmError TASK_FILE, TASK_UNSUPPORTED, TASK_DATA, TASK_DOCUMENT, TASK_METRIC, DATA_*
 */
export async function readJobTasks(
  { tasks }: Pick<JobSpec, 'tasks'>,
  { signal }: { signal: AbortSignal },
): Promise<JobTasks | null> {
  if (tasks === null) return null;
  const { every, metric, limit } = tasks;
  const files = [tasks.files].flat();
  const loaded = await loadTasks({ tasks: files, limit: limit ?? undefined, signal });
  return { files, every, metric: metric === null ? null : chooseMetric(metric, loaded), limit };
}
