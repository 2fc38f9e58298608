import { type JobSpec, parseJobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { setKeys } from '../../lora/finetune/settings/set-keys.ts';
import { coordinatorError } from '../errors.ts';
import type { JobRun } from '../job-run.ts';
import type { JobTasks } from '../store/store.ts';

type Changes = Readonly<Record<string, unknown>>;

/** Keys of a job file that a copy of a job cannot change, each with the reason. */
const FIXED: ReadonlyMap<string, string> = new Map([
  ['name', 'the option --name (`name`) sets the name of a copy'],
  ['base', 'a copy uses the files of the base that the coordinator has'],
  ['start', 'a copy begins with the first adapter of the job'],
  ['data.heldOut', 'a copy is measured on the held-out rows of the job'],
  ['data.template', 'the held-out rows were made with the chat template of the job'],
  ['training.sequenceLength', 'the held-out rows have the length that the job chose'],
  ['tasks', 'a copy is evaluated on the same tasks'],
  ['tasks.files', 'a copy is evaluated on the same tasks'],
  ['tasks.metric', 'a copy is compared by the same metric'],
  ['samples', 'a copy continues the same prompts'],
  ['preset', 'the preset has already chosen the settings of the job'],
  ['admission', 'a copy admits the same nodes'],
]);
/** Key of the training files in a job file. */
const TRAIN = 'data.train';

/** The settings of a copy of a job. */
export interface CloneSettings {
  readonly spec: JobSpec;
  /** Whether the training files of the copy differ from the training files of the job. */
  readonly hasNewData: boolean;
}

/**
 * Returns the settings of a copy of a job: the newest settings of the job, with the given changes.
 * @throws SwarmError SETTING_FIXED, SETTING_INVALID, JOB_SPEC
 */
export function cloneSettings(
  { context }: Pick<JobRun, 'context'>,
  tasks: JobTasks | null,
  given: Changes,
): CloneSettings {
  const { manifest, settings } = context;
  const { learningRate, ...rounds } = settings.newest;
  const changes = flatData(given);
  const keys = Object.keys(changes);
  for (const key of keys) checkKey(key);
  const hasNewData = keys.some((key) => key.startsWith('data.'));
  if (hasNewData && !keys.includes(TRAIN)) {
    throw coordinatorError(
      'SETTING_INVALID',
      `${keys.find((key) => key.startsWith('data.'))} needs ${TRAIN} as well, because the coordinator does not keep the data files of the job`,
      { key: TRAIN },
      { next: `name the training files with ${TRAIN}` },
    );
  }
  const { alpha, ...lora } = manifest.lora;
  const spec = parseJobSpec(
    setKeys(
      {
        // The copy gets its name later. The name of a job from an earlier release may be one that new jobs cannot have.
        name: 'copy',
        base: manifest.base.name,
        data: { train: manifest.name },
        // As in a job file, alpha is twice the new rank unless the changes set alpha too.
        lora: keys.includes('lora.rank') ? lora : { ...lora, alpha },
        training: { ...manifest.training, learningRate },
        rounds: { ...manifest.rounds, ...rounds },
        acceptance: manifest.acceptance,
        seed: manifest.seed,
        ...(tasks && { tasks: { files: [...tasks.files], every: tasks.every, limit: tasks.limit } }),
      },
      changes,
    ),
  );
  return { spec, hasNewData };
}

/** Replaces the object `data` of the changes by one key for each of its settings, such as `data.train`. */
function flatData({ data, ...changes }: Changes): Changes {
  if (typeof data !== 'object' || data === null) return data === undefined ? changes : { ...changes, data };
  return {
    ...changes,
    ...Object.fromEntries(Object.entries(data).map(([key, value]) => [`data.${key}`, value])),
  };
}

/** @throws SwarmError SETTING_FIXED, SETTING_INVALID */
function checkKey(key: string): void {
  const [group, , ...deeper] = key.split('.') as [string];
  const why = FIXED.get(key) ?? (group === 'tasks' ? undefined : FIXED.get(group));
  if (why !== undefined) {
    throw coordinatorError(
      'SETTING_FIXED',
      `a copy of a job cannot change ${key}: ${why}`,
      { key },
      {
        next:
          group === 'name' ? 'use --name NAME' : 'create a job from a job file: "lora-swarm job create FILE"',
      },
    );
  }
  if (deeper.length > 0) {
    throw coordinatorError('SETTING_INVALID', `${key} names a part of a setting; give the whole setting`, {
      key,
    });
  }
}
