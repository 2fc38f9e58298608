import { rm, rmdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { claimOutput } from '../../common/files/folders.ts';
import { resolveHomes } from '../../common/files/user-folders.ts';
import { formatBytes } from '../../common/text.ts';
import type { PulledCheckpoint, Registry } from '../../index.ts';
import type { FetchedCheckpoint } from '../../node/reader/checkpoint-pull.ts';
import { adapterName, registryFolder, registryOption, withRegistry } from '../adapter/with-registry.ts';
import type { Context } from '../context.ts';
import { runningNode } from '../daemon/running-node.ts';
import { usageError } from '../errors.ts';
import { homeOption, jsonOption } from '../options/common.ts';
import { looksLikeTarget } from '../options/target.ts';
import {
  hasInviteVariable,
  inviteFileOption,
  readTarget,
  TARGET_HELP,
  type TargetOptions,
} from '../options/target-input.ts';
import { refuseUnused } from '../options/unused.ts';
import { ProgressLine, printJson, printLines } from '../print.ts';
import { initialLines } from '../views/checkpoints.ts';

interface PullOptions extends TargetOptions {
  home?: string;
  force?: boolean;
  json?: boolean;
  publish?: boolean;
  name?: string;
  registry?: string;
}

export function registerPull(checkpoint: Command, context: Context): void {
  checkpoint
    .command('pull')
    .argument(
      '<job>',
      `name or digest of a job that the node of this machine has joined, even if the job has ended; or: ${TARGET_HELP}. With --invite-file or SWARM_INVITE, leave this argument out`,
    )
    .argument(
      '[dir]',
      'folder to write to; required with an invite. For a job that the node of this machine has joined, the default is a folder with the name of the job',
    )
    .description(
      'download the newest checkpoint of a job from its swarm, as a PEFT adapter; any machine can run this command',
    )
    .addOption(homeOption())
    .option(
      '--job <digest>',
      'digest of the job, if the coordinator has several jobs and the invite or multiaddr names none',
    )
    .addOption(inviteFileOption())
    .option('--force', 'write into <dir> even if it is not empty')
    .option('--publish', 'also add the checkpoint to the registry of adapters')
    .option(
      '--name <name>',
      'name of the adapter in the registry (default: the name of the job)',
      adapterName,
    )
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((first: string, second: string | undefined, options: PullOptions, command: Command) =>
      pull(context, first, second, options, command),
    );
}

/** Fetches the checkpoint and writes it to `output`. */
type Pull = (
  files: { output: string; registry?: Registry },
  progress: ProgressLine,
) => Promise<PulledCheckpoint>;

async function pull(
  context: Context,
  first: string,
  second: string | undefined,
  options: PullOptions,
  command: Command,
): Promise<void> {
  const hasInvite = options.inviteFile !== undefined || hasInviteVariable(context);
  const isOwn = second === undefined ? options.home !== undefined || !hasInvite : !looksLikeTarget(first);
  const isNodes = isOwn && !looksLikeTarget(first);
  if (!options.publish) refuseUnused(command, ['name', 'registry'], 'with --publish');
  if (isNodes) refuseUnused(command, ['job', 'inviteFile'], 'without a job of the node');
  else refuseUnused(command, ['home'], 'with a job of the node');
  const { dir, pullWith } = isNodes
    ? await pullOwn(context, first, second, options)
    : await pullInvited(context, first, second, options);
  const output = resolve(context.cwd, dir);
  await claimOutput(output, { force: options.force === true });
  const progress = new ProgressLine(context);
  const pulled = await (options.publish
    ? withRegistry(context, options, (registry) => pullWith({ output, registry }, progress))
    : pullWith({ output }, progress)
  )
    .catch(async (error: unknown) => {
      // If the folder has files, rmdir fails, and the files stay. The error of the download is the one to report.
      await rmdir(output).catch(() => {});
      throw error;
    })
    .finally(() => progress.clear());
  if (options.json) printJson(context, { schemaVersion: 1, output, ...pulled });
  else {
    const text = `PEFT adapter of round ${pulled.round} of job ${pulled.name} in ${output}`;
    const where = registryFolder(context, options);
    printLines(context, [
      pulled.version === null ? text : `${text}, ${pulled.version} in the registry ${where}`,
      ...initialLines(pulled.round),
    ]);
  }
}

/**
 * Downloads with an invite. If the node of this machine has used the invite, the download uses the node's key.
 * @param first the invite. If the invite comes from a file or a variable, `second` is missing and `first` is
 *   the folder
 */
async function pullInvited(
  context: Context,
  first: string,
  second: string | undefined,
  options: PullOptions,
): Promise<{ dir: string; pullWith: Pull }> {
  const hasInvite = options.inviteFile !== undefined || hasInviteVariable(context);
  if (second === undefined && !hasInvite) {
    throw usageError('the folder to write to is missing', 'add the folder as the second argument');
  }
  const { isSwarmError, pullCheckpoint } = await import('../../index.ts');
  const from = await readTarget(context, second === undefined ? [] : [first], options);
  const { version, signal, environment, cwd } = context;
  const keyFolder = resolveHomes(undefined, environment, cwd).reader;
  const dir = second ?? first;
  return {
    dir,
    pullWith: async (files, progress) => {
      try {
        return await pullCheckpoint({
          ...{ ...files, ...from, keyFolder, version, signal, name: options.name },
          onProgress: (at) => progress.update(progressText(at)),
        });
      } catch (error) {
        if (!isSwarmError(error, 'RPC_REFUSED') || error.values.code !== 'INVITE_USED') throw error;
        const { joinedWith } = await import('../../node/reader/own-checkpoint.ts');
        const job = await joinedWith(resolveHomes(undefined, environment, cwd).node, from);
        if (job === null) throw error;
        const { pullWith } = await pullOwn(context, job, dir, options);
        return pullWith(files, progress);
      }
    },
  };
}

/** Pulls a checkpoint of a job with the key and the invite of the node in a home. The node may be running. */
async function pullOwn(
  context: Context,
  job: string,
  dir: string | undefined,
  options: PullOptions,
): Promise<{ dir: string; pullWith: Pull }> {
  const { joinedJob } = await import('../../node/reader/own-checkpoint.ts');
  const { version, signal, environment, cwd } = context;
  const { node: home } = resolveHomes(options.home, environment, cwd);
  const joined = await joinedJob(home, job);
  const api = await runningNode(context, home);
  const { name } = options;
  return {
    dir: dir ?? joined.name,
    pullWith: async (files, progress) => {
      const { pullCheckpoint } = await import('../../index.ts');
      const { writeCheckpoint } = await import('../../node/reader/checkpoint-pull.ts');
      if (api === null) {
        const { addresses, token } = joined;
        return pullCheckpoint({
          ...{ ...files, addresses, token, job: joined.job, nodeHome: home, version, signal, name },
          onProgress: (at) => progress.update(progressText(at)),
        });
      }
      progress.update('the node of this machine fetches the adapter');
      const fetched = await api.orderNode<FetchedCheckpoint>('checkpoint', { job: joined.job });
      try {
        return await writeCheckpoint({ ...files, name }, fetched);
      } finally {
        await rm(fetched.weights, { force: true });
      }
    },
  };
}

function progressText({ round, bytes, total }: { round: number; bytes: number; total: number }): string {
  return `adapter of round ${round}: ${formatBytes(bytes)} of ${formatBytes(total)}`;
}
