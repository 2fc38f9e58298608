import { defineErrors, REPORT } from '../../common/errors.ts';

export const evaluateError = defineErrors({
  EVALUATE_EMPTY: { kind: 'failed', next: 'use texts of at least two tokens' },
  EVALUATE_LOG: { kind: 'usage', next: 'give a file with the output of "lora-swarm train --json"' },
  TASK_ANSWERS: 'failed',
  TASK_CHANGED: {
    kind: 'conflict',
    next: 'leave the task files and their data unchanged while a checkpoint is evaluated; to use other tasks, create another job',
  },
  TASK_DATA: { kind: 'failed', next: 'correct the data files that the task file names' },
  TASK_DOCUMENT: { kind: 'failed', next: 'correct the template, or the document' },
  TASK_FILE: { kind: 'usage', next: 'correct the task file (docs/evaluation.md)' },
  TASKS_FAILED: { kind: 'internal', next: REPORT },
  TASKS_DIED: { kind: 'failed', next: 'if memory ran out, use fewer threads or --base-bits 8' },
  TASK_METRIC: { kind: 'usage', next: 'choose one of these metrics' },
  TASK_TOO_LARGE: { kind: 'failed', next: 'evaluate fewer documents (tasks.limit)' },
  TASK_UNSUPPORTED: {
    kind: 'usage',
    next: 'write the task without this feature (see docs/evaluation.md for what is supported), or use lm-evaluation-harness',
  },
});
