import type { JobDetail } from '../../../protocol/api/coordinator.ts';

/** A setting that can change while the job runs. */
interface Changeable {
  /** Key in the job file. */
  readonly key: string;
  readonly label: string;
  readonly value: number;
  /** What happens after a change. */
  readonly effect: string;
}

const SIGNED =
  'The nodes use the new value from the next round on. The change is signed, and stays in the history of the job.';
const UNSIGNED = 'The coordinator uses the new value at once. The events of the job record the change.';

/** Returns the settings of a job that can change while it runs. */
export function changeableSettings({ settings, priority, tasks }: JobDetail): Changeable[] {
  const signed = (key: string, label: string, value: number) => ({ key, label, value, effect: SIGNED });
  const unsigned = (key: string, label: string, value: number) => ({ key, label, value, effect: UNSIGNED });
  return [
    signed('training.learningRate', 'Learning rate', settings.learningRate),
    signed('rounds.count', 'Rounds', settings.count),
    signed('rounds.minPeers', 'Minimum number of nodes', settings.minPeers),
    signed('rounds.maxSeconds', 'Maximum length of a round in seconds', settings.maxSeconds),
    unsigned('priority', 'Priority', priority),
    ...(tasks === null
      ? []
      : [unsigned('tasks.every', 'Checkpoints per evaluation on the tasks', tasks.every)]),
  ];
}
