import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withAbortReason } from '../../common/abort-reason.ts';
import { requireNoFile } from '../../common/files/folders.ts';
import type { Clock } from '../../common/time/clock.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import type { JobTarget } from '../../protocol/access/invite.ts';
import type { Head } from '../../protocol/messages.ts';
import { CARD_FILE } from '../../registry/export/card.ts';
import { checkpointCard } from '../../registry/export/checkpoint-card.ts';
import type { JobHistory } from '../../registry/job-settings.ts';
import { known, publishCheckpoint } from '../../registry/publish-checkpoint.ts';
import type { Registry } from '../../registry/registry.ts';
import { fetchOrRecheck } from '../blobs/recheck.ts';
import { request } from '../contact/requests.ts';
import { type CheckpointHistory, fetchCheckpointHistory } from './checkpoint-history.ts';
import { writePeftFolder } from './peft-folder.ts';
import { withReader } from './reader.ts';
import { fetchHistory } from './settings-history.ts';

/** The swarm from which a checkpoint is fetched, and the folder to which the checkpoint is written. */
export interface PullOptions extends JobTarget {
  /** Folder for the PEFT files. It is created if it is missing. */
  readonly output: string;
  /**
   * Folder of the key with which this machine downloads checkpoints. The key stays the same, so that a
   * personal invite counts this machine only once. A download without an invite token ignores this folder and
   * makes a new key.
   * @default SWARM_HOME/reader, else lora-swarm/reader in the user's data folder
   */
  readonly keyFolder?: string;
  /**
   * Home of a stopped node. The download uses the key of that node, to which its personal invite is bound.
   * @default none
   */
  readonly nodeHome?: string | undefined;
  /** Version of this program that other peers see. @default the package's version */
  readonly version?: string;
  /** @default never aborts */
  readonly signal?: AbortSignal;
  /** Registry that the checkpoint is added to as a version. @default none */
  readonly registry?: Registry;
  /** Name of the adapter in the registry. @default the name of the job */
  readonly name?: string | undefined;
  /** Called whenever bytes of the adapter have arrived, with the number of bytes so far. */
  readonly onProgress?: (progress: { round: number; bytes: number; total: number }) => void;
}

/** A checkpoint that was fetched. */
export interface PulledCheckpoint {
  /** Digest of the job. */
  job: string;
  /** Name of the job. */
  name: string;
  round: number;
  /** Held-out loss in nats per token; null if the coordinator measured none. */
  heldOutLoss: number | null;
  /** `NAME:vN` in the registry; null without a registry. */
  version: string | null;
}

/**
 * Fetches the newest checkpoint from a swarm into a PEFT folder. Until the download is complete, its bytes are kept in
 * `<output>.partial`, so that a second call continues where the first one ended.
 * @throws SwarmError INVITE_INVALID, NO_ADDRESS, FOLDER_UNUSABLE, CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED,
 *   and refusals of the network and of admission
 */
export function pullCheckpoint(
  options: PullOptions,
  { clock = systemClock }: { clock?: Clock } = {},
): Promise<PulledCheckpoint> {
  return withAbortReason(options.signal, () => pull(options, clock));
}

async function pull(options: PullOptions, clock: Clock): Promise<PulledCheckpoint> {
  const { output, signal = new AbortController().signal, onProgress } = options;
  await requireNoFile(output);
  const home = `${output}.partial`;
  // Keep the bytes of an earlier call, even if this call fails before its own download begins.
  let keepPartial = existsSync(home);
  try {
    return await withReader({ ...options, home, signal }, { clock }, async (reader) => {
      const { network, blobs, coordinator, job, head } = reader;
      const { adapter, round } = head.checkpoint;
      keepPartial = true;
      const wanted = { job, digest: adapter.digest, coordinator };
      await fetchOrRecheck(wanted, { network, clock }, signal, () =>
        network.fetchBlob(adapter, {
          holders: [coordinator, ...head.included.map(({ peer }) => peer)],
          signal,
          onProgress: ({ bytes, total }) => onProgress?.({ round, bytes, total }),
        }),
      );
      const past = await fetchCheckpointHistory(reader, (body) =>
        request({ network, clock }, coordinator, 'record', body, signal),
      );
      const history = await fetchHistory(reader, (body) =>
        request({ network, clock }, coordinator, 'settings', body, signal),
      );
      const { checkpoint } = head;
      const weights = blobs.path(adapter.digest);
      const onFiles = (): void => {
        keepPartial = false;
      };
      return await writeCheckpoint(options, { job, ...history, ...past, checkpoint, weights, onFiles });
    });
  } finally {
    if (!keepPartial) await rm(home, { recursive: true, force: true });
  }
}

/** A checkpoint whose weights are on this machine. */
export interface FetchedCheckpoint extends JobHistory, CheckpointHistory {
  /** Digest of the job. */
  readonly job: string;
  readonly checkpoint: Pick<Head['checkpoint'], 'digest' | 'round' | 'ordinal' | 'heldOutLoss'>;
  /** Path of the adapter's weights. */
  readonly weights: string;
}

/**
 * Writes a checkpoint to a PEFT folder with a model card, and adds it to the registry if the options name one. The card
 * has no figures of tasks, because the coordinator does not send them to members.
 * @throws the errors of `publishCheckpoint`, and errors of the file system
 */
export async function writeCheckpoint(
  { output, registry, name }: Pick<PullOptions, 'output' | 'registry' | 'name'>,
  {
    job,
    manifest,
    changes,
    checkpoint,
    curve,
    rollBacks,
    weights,
    onFiles,
  }: FetchedCheckpoint & { onFiles?: () => void },
): Promise<PulledCheckpoint> {
  await writePeftFolder(output, weights, manifest);
  const baseLoss = curve[0]?.round === 0 ? curve[0].heldOutLoss : null;
  const card = checkpointCard({
    job,
    manifest,
    changes,
    checkpoint,
    baseLoss,
    curve,
    rollBacks,
    checkpointCount: checkpoint.ordinal + 1,
    figures: null,
  });
  await writeFile(join(output, CARD_FILE), card);
  onFiles?.();
  const { digest, round, heldOutLoss } = checkpoint;
  const pulled = { job, name: manifest.name, round, heldOutLoss };
  if (registry === undefined) return { ...pulled, version: null };
  const { version } = await publishCheckpoint(registry, {
    folder: output,
    job,
    manifest,
    changes,
    checkpoint: { digest, round, metrics: known({ heldOutLoss, round }) },
    curve,
    rollBacks,
    name,
    reason: 'lora-swarm checkpoint pull',
  });
  return { ...pulled, version: version.label };
}
