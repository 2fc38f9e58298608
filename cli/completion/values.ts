import { existsSync } from 'node:fs';
import { resolveHomes } from '../../common/files/user-folders.ts';
import { formatLoss, safeText } from '../../common/text.ts';
import { readJoinedJobs } from '../../node/store/known-jobs.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { registryFolder, withRegistry } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { coordinatorApi } from '../daemon/connect.ts';
import type { Value, ValueKind } from './suggest.ts';

/**
 * Maximum time to get suggestions from a running coordinator. It is short because the user waits for the
 * suggestions after each press of the Tab key.
 */
const VALUES_MS = 2_000;

/**
 * Returns the values that the shell completes for an argument. Returns none if the coordinator does not answer.
 * @param words the words of the command line, which may name the job that the values belong to
 */
export async function valuesOf(
  context: Context,
  kind: ValueKind,
  words: readonly string[],
): Promise<readonly Value[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(VALUES_MS)]);
  try {
    return await LOADERS[kind]({ ...context, signal }, words);
  } catch {
    // Errors are ignored, because a message would appear in the middle of the command line that the user is
    // typing.
    return [];
  }
}

type Loader = (context: Context, words: readonly string[]) => Promise<readonly Value[]>;

const LOADERS: Readonly<Record<ValueKind, Loader>> = {
  jobs: async (context) =>
    (await (await coordinatorApi(context, {})).jobs()).map(({ name, phase }) => [name, phase]),
  'joined-jobs': async ({ environment, cwd }) => {
    const jobs = await readJoinedJobs(resolveHomes(undefined, environment, cwd).node);
    // The newest job comes first. If several jobs have the same name, the name means the newest of them.
    return [...new Set(jobs.reverse().map(({ name }) => name))].map((name): Value => [name, 'joined job']);
  },
  peers: async (context) =>
    (await (await coordinatorApi(context, {})).peers()).map(({ name, peer }) => [name, shortPeer(peer)]),
  invites: async (context) => {
    const api = await coordinatorApi(context, {});
    const jobs = await api.jobs();
    const all = await Promise.all(jobs.map(async (job) => ({ job, invites: await api.invites(job.job) })));
    return all.flatMap(({ job, invites }) =>
      invites
        .filter(({ state }) => state !== 'revoked')
        .map(
          ({ id, name }): Value => [id, `${name === null ? '' : `${safeText(name)}, `}invite of ${job.name}`],
        ),
    );
  },
  rounds,
  'rounds-or-best': async (context, words) => [
    ['best', 'the best checkpoint'],
    ...(await rounds(context, words)),
  ],
  adapters: (context) =>
    fromRegistry(context, (registry) => registry.names().map((name): Value => [name, 'adapter'])),
  tags: (context) =>
    fromRegistry(context, (registry) =>
      registry
        .names()
        .flatMap((name): Value[] => [
          [name, 'adapter'],
          ...[...registry.tags(name)].map(([tag, number]): Value => [`${name}:${tag}`, `version ${number}`]),
        ]),
    ),
};

/** Maximum number of newest rounds that are suggested. */
const SHOWN_ROUNDS = 50;

/** Returns the rounds of the newest checkpoints of the job that a word names, or of the coordinator's only job. */
async function rounds(context: Context, words: readonly string[]): Promise<Value[]> {
  const api = await coordinatorApi(context, {});
  const jobs = await api.jobs();
  const named = jobs.find(({ name }) => words.includes(name)) ?? (jobs.length === 1 ? jobs[0] : undefined);
  if (named === undefined) return [];
  const checkpoints = await api.checkpoints(named.job, { enough: SHOWN_ROUNDS });
  return checkpoints.map(({ round, checkpoint }) => [
    String(round),
    `held-out loss ${formatLoss(checkpoint.metrics.heldOutLoss)}`,
  ]);
}

/** Reads the registry. A registry that does not exist is not created. */
async function fromRegistry(
  context: Context,
  read: Parameters<typeof withRegistry<readonly Value[]>>[2],
): Promise<readonly Value[]> {
  return existsSync(registryFolder(context)) ? await withRegistry(context, {}, read) : [];
}
