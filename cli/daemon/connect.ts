import { resolveHomes } from '../../common/files/user-folders.ts';
import { type ApiClient, connect, isSwarmError } from '../../index.ts';
import { nodeError } from '../../node/errors.ts';
import type { Role } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';

export interface HomeFlag {
  home?: string;
}

/** Help of an argument that must name a job. */
export const JOB_HELP = 'name of a job, its digest or the beginning of the digest';

/** Name and help of the argument that selects a job. */
export const JOB_ARGUMENT = ['[job]', `${JOB_HELP} (default: the only job)`] as const;

/** Connects to the coordinator that runs in the chosen home. @throws SwarmError DAEMON_NOT_RUNNING */
export function coordinatorApi(context: Context, flag: HomeFlag): Promise<ApiClient> {
  return daemonApi(context, flag, 'coordinator');
}

/** Connects to the daemon that runs in the chosen home. @throws SwarmError DAEMON_NOT_RUNNING */
export async function daemonApi(
  { environment, cwd, signal }: Pick<Context, 'environment' | 'cwd' | 'signal'>,
  { home }: HomeFlag,
  role: Role,
): Promise<ApiClient> {
  const homes = resolveHomes(home, environment, cwd);
  try {
    return await connect({ home: homes[role] }, { role, signal });
  } catch (error) {
    if (homes.named || !isSwarmError(error, 'DAEMON_NOT_RUNNING') || error.next === null) throw error;
    // All commands find the default home without --home.
    throw error.with({ next: error.next.replace(` --home ${homes[role]}`, '') });
  }
}

/** Returns the named job, or the coordinator's only job. @throws SwarmError JOB_NOT_FOUND, USAGE */
export async function chooseJob(api: ApiClient, named: string | undefined): Promise<string> {
  if (named !== undefined) return named;
  const jobs = await api.jobs();
  if (jobs.length === 1) return jobs[0]!.job;
  if (jobs.length === 0) {
    throw nodeError(
      'JOB_NOT_FOUND',
      'this coordinator has no jobs',
      {},
      { next: 'create one with "lora-swarm job create FILE.yaml"' },
    );
  }
  throw usageError(
    `this coordinator has ${jobs.length} jobs: ${jobs.map((j) => j.name).join(', ')}`,
    'add the name of one of these jobs to the command',
  );
}
