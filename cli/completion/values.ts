import { existsSync } from 'node:fs';
import { resolveHomes } from '../../common/user-folders.ts';
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

/** Returns the values that the shell completes for an argument. Returns none if the coordinator does not answer. */
export async function valuesOf(context: Context, kind: ValueKind): Promise<readonly Value[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(VALUES_MS)]);
  try {
    return await LOADERS[kind]({ ...context, signal });
  } catch {
    // Errors are ignored, because a message would appear in the middle of the command line that the user is
    // typing.
    return [];
  }
}

const LOADERS: Readonly<Record<ValueKind, (context: Context) => Promise<readonly Value[]>>> = {
  jobs: async (context) =>
    (await (await coordinatorApi(context, {})).jobs()).map(({ name, phase }) => [name, phase]),
  'joined-jobs': async ({ environment, cwd }) => {
    const jobs = await readJoinedJobs(resolveHomes(undefined, environment, cwd).node);
    // The newest job comes first. If several jobs have the same name, the name means the newest of them.
    return [...new Set(jobs.reverse().map(({ name }) => name))].map((name): Value => [name, 'joined job']);
  },
  peers: async (context) =>
    (await (await coordinatorApi(context, {})).peers()).map(({ name, peer }) => [name, shortPeer(peer)]),
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

/** Reads the registry. A registry that does not exist is not created. */
async function fromRegistry(
  context: Context,
  read: Parameters<typeof withRegistry<readonly Value[]>>[2],
): Promise<readonly Value[]> {
  return existsSync(registryFolder(context)) ? await withRegistry(context, {}, read) : [];
}
