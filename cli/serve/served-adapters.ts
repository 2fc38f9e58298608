import { join } from 'node:path';
import { resolveCache, resolveHomes } from '../../common/files/user-folders.ts';
import type { AdapterSource, Registry } from '../../index.ts';
import type { JobFollower } from '../../node/reader/job-follower.ts';
import { looksLikeInvite } from '../../protocol/access/invite.ts';
import type { Context } from '../context.ts';
import { coordinatorApi } from '../daemon/connect.ts';
import { usageError } from '../errors.ts';
import { isPeerAddress } from '../options/common.ts';
import { readTarget, type TargetOptions } from '../options/target-input.ts';
import { printJson, printNote } from '../print.ts';

export interface AdapterFlags extends TargetOptions {
  readonly adapter?: readonly string[];
  readonly follow?: string;
  readonly home?: string;
  readonly json?: boolean;
}

interface ServedBase {
  readonly digest: string;
  readonly dir: string;
}

/**
 * Opens the adapters of --adapter, --follow and --invite-file. The caller closes them.
 * @throws SwarmError USAGE, and the errors of the sources
 */
export async function servedAdapters(
  context: Context,
  flags: AdapterFlags,
  base: ServedBase,
  registry: () => Promise<Registry>,
): Promise<{ sources: AdapterSource[]; close: () => Promise<void> }> {
  const { adapterSource } = await import('./adapter-sources.ts');
  const { adapter = [] } = flags;
  const isRemote = isOverNetwork(flags);
  if (flags.home !== undefined && (isRemote || flags.follow === undefined)) {
    throw usageError(
      '--home has an effect only with --follow and a job of the coordinator on this machine',
      'leave out --home',
    );
  }
  const sources = await Promise.all(
    adapter.map((text) => adapterSource(text, { cwd: context.cwd, base }, { registry })),
  );
  if (isRemote) {
    const { networkSource } = await import('./network-source.ts');
    const follower = await followOverNetwork(context, flags, base);
    return { sources: [...sources, networkSource(follower)], close: () => follower.close() };
  }
  if (flags.follow !== undefined) sources.push(await localSource(context, flags.follow, flags.home));
  return { sources, close: async () => {} };
}

/** Returns whether a job is followed over the network. @throws SwarmError USAGE if the flags contradict each other */
function isOverNetwork({ follow, inviteFile, job }: AdapterFlags): boolean {
  const isTarget =
    follow === '-' || (follow !== undefined && (looksLikeInvite(follow) || isPeerAddress(follow)));
  if (isTarget || (inviteFile !== undefined && follow === undefined)) return true;
  if (inviteFile !== undefined) {
    throw usageError('--follow and --invite-file both name a job to follow', 'leave out one of them');
  }
  if (job !== undefined) {
    throw usageError(
      '--job names a job of another coordinator, but no coordinator was given',
      'add --follow INVITE or --invite-file FILE',
    );
  }
  return false;
}

async function localSource(context: Context, job: string, home: string | undefined): Promise<AdapterSource> {
  const { followSource } = await import('./follow-source.ts');
  return followSource(job, {
    open: () => coordinatorApi(context, { ...(home !== undefined && { home }) }),
    now: () => context.clock.monotonic(),
    onWarning: (text) => printNote(context, text),
  });
}

/** Follows a job over the network. Waits until its first checkpoint has arrived. */
async function followOverNetwork(
  context: Context,
  { follow, json, ...target }: AdapterFlags,
  base: ServedBase,
): Promise<JobFollower> {
  const { JobFollower } = await import('../../node/reader/job-follower.ts');
  const { followNote } = await import('./network-source.ts');
  const { environment, cwd, signal, version } = context;
  const from = await readTarget(context, follow === undefined ? [] : [follow], target);
  let follower: JobFollower | null = null;
  follower = await JobFollower.open(
    {
      ...from,
      folder: join(resolveCache(environment, cwd), 'followed'),
      keyFolder: resolveHomes(undefined, environment, cwd).reader,
      base,
      version,
      signal,
    },
    {
      onEvent: (event) => {
        printNote(context, followNote(event, follower));
        if (json && event.type === 'checkpoint') {
          const { round, digest } = event.checkpoint;
          printJson(context, { schemaVersion: 1, event: 'checkpoint', round, digest });
        }
      },
    },
  );
  return follower;
}
