/** Defines which settings of a job may change while it runs, and why all others may not. */
import { z } from 'zod';
import { isSwarmError } from '../common/errors.ts';
import { nearest } from '../common/nearest.ts';
import { parseJobSpec } from '../lora/finetune/settings/job-spec.ts';
import { setKeys } from '../lora/finetune/settings/set-keys.ts';
import { type RunningSettings, runningSettingsSchema, settingKeys } from '../protocol/job/settings.ts';
import { MAX_PRIORITY } from '../protocol/limits.ts';
import { coordinatorError } from './errors.ts';

/** A change that the operator asks for: settings of the rounds, or settings that only the coordinator uses. */
export type JobChange = Partial<RunningSettings> & {
  readonly priority?: number;
  /** Number n: every n-th checkpoint is evaluated on the tasks of the job. */
  readonly tasksEvery?: number;
};

/** The settings that may change, by their keys in the job file. */
const FIELDS = {
  [settingKeys.learningRate]: 'learningRate',
  [settingKeys.count]: 'count',
  [settingKeys.minPeers]: 'minPeers',
  [settingKeys.maxSeconds]: 'maxSeconds',
  priority: 'priority',
  'tasks.every': 'tasksEvery',
} as const satisfies Record<string, keyof JobChange>;

export type ChangeableKey = keyof typeof FIELDS;
export const CHANGEABLE_KEYS = Object.keys(FIELDS) as ChangeableKey[];

const prioritySchema = z.int().min(-MAX_PRIORITY).max(MAX_PRIORITY);

const NEW_FILE = 'create another job from a job file: "lora-swarm job create FILE"';

/**
 * Reasons why the settings of a job file that are not in FIELDS cannot change, by the first part of their
 * key.
 */
const FIXED: Readonly<Record<string, string>> = {
  name: 'the name is part of the signed definition of the job',
  base: 'the nodes have loaded this base, and every checkpoint belongs to it',
  start: 'the job has begun with its first adapter',
  data: 'the nodes have fetched the data, and losses on other held-out data cannot be compared',
  preset: 'the preset chose settings when the job was created',
  lora: 'the shape of the adapter is the same in all checkpoints',
  training: 'the trainers of the nodes were started with this setting',
  rounds: 'the nodes agreed to this setting when they joined, and witnesses repeat merges with it',
  acceptance: 'all checkpoints of a job pass the same check',
  admission: 'the invites of the job depend on this setting',
  tasks:
    'figures of other tasks, documents or metrics could not be compared with the figures of earlier checkpoints',
  samples: 'the samples of all checkpoints are continuations of the same prompts',
  seed: 'the first adapter and the order of the data depend on this setting',
};

/**
 * Advice for each setting that `lora-swarm job clone --set` cannot change. For all other settings, the advice is to
 * use that command.
 */
const NEXT: Readonly<Record<string, string>> = {
  name: 'make another job with another name: "lora-swarm job clone JOB --name NAME"',
  base: NEW_FILE,
  start: NEW_FILE,
  data: NEW_FILE,
  preset: NEW_FILE,
  admission: NEW_FILE,
  samples: NEW_FILE,
  'tasks.files': NEW_FILE,
  'tasks.metric': NEW_FILE,
};

/** The keys that every job file must have. They are added to a change, so that it can be checked like a job file. */
const SKELETON = { name: 'job', base: 'base', data: { train: 'data' } };
/** The key that the section `tasks` of a job file must have. It is added to a change of that section only. */
const TASKS_SKELETON = { tasks: { files: 'tasks' } };

/**
 * Checks the changes of a running job.
 * @param changes new values, by their keys in the job file
 * @throws SwarmError SETTING_FIXED, SETTING_INVALID; JOB_SPEC for an unknown key or a wrong value
 */
export function parseChange(
  job: string,
  { priority, ...changes }: Readonly<Record<string, unknown>>,
): JobChange {
  const hasTasks = Object.keys(changes).some((key) => key.split('.')[0] === 'tasks');
  const spec = setKeys({ ...SKELETON, ...(hasTasks && TASKS_SKELETON) }, changes);
  checkValues(spec, Object.keys(changes));
  const change: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(changes)) change[fieldOf(job, key)] = value;
  const { tasksEvery, ...settings } = change;
  return {
    ...runningSettingsSchema.partial().parse(settings),
    ...(tasksEvery !== undefined && { tasksEvery: tasksEvery as number }),
    ...(priority !== undefined && { priority: parsePriority(priority) }),
  };
}

/** @throws SwarmError JOB_SPEC, with advice about changes of a job instead of advice about job files */
function checkValues(spec: object, keys: readonly string[]): void {
  try {
    parseJobSpec(spec);
  } catch (error) {
    if (!isSwarmError(error, 'JOB_SPEC')) throw error;
    const { problems } = error.values as { problems: string[] };
    const [meant] = keys.flatMap((key) =>
      Object.hasOwn(FIELDS, key) ? [] : (nearest(key, CHANGEABLE_KEYS) ?? []),
    );
    const advice =
      meant === undefined ? 'correct the setting, such as rounds.count=20' : `write ${meant}=VALUE`;
    const next = `${advice}. These settings can change: ${CHANGEABLE_KEYS.join(', ')}`;
    throw error.with({ message: `the job cannot be changed: ${problems.join('; ')}`, next });
  }
}

function parsePriority(priority: unknown): number {
  const result = prioritySchema.safeParse(priority);
  if (!result.success) {
    throw coordinatorError(
      'SETTING_INVALID',
      `priority is ${JSON.stringify(priority)}; it must be a whole number from ${-MAX_PRIORITY} to ${MAX_PRIORITY}`,
      { key: 'priority' },
      { next: 'write for example priority=10' },
    );
  }
  return result.data;
}

function fieldOf(job: string, key: string): keyof JobChange {
  if (Object.hasOwn(FIELDS, key)) return FIELDS[key as ChangeableKey];
  const [group] = key.split('.') as [string];
  throw coordinatorError(
    'SETTING_FIXED',
    `${key} cannot change while the job runs, because ${FIXED[group]}; these settings can change: ${CHANGEABLE_KEYS.join(', ')}`,
    { key, known: CHANGEABLE_KEYS },
    {
      next:
        NEXT[key] ??
        NEXT[group] ??
        `make another job with the new value: "lora-swarm job clone ${job} --set ${key}=VALUE"`,
    },
  );
}
