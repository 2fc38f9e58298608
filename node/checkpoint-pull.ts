import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withAbortReason } from '../common/abort-reason.ts';
import type { Clock } from '../common/clock.ts';
import { requireNoFile } from '../common/folders.ts';
import { systemClock } from '../common/system-clock.ts';
import type { JobTarget } from '../protocol/invite.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { Head } from '../protocol/messages.ts';
import { withSettings } from '../protocol/settings.ts';
import { CARD_FILE } from '../registry/export/card.ts';
import { type CurvePoint, checkpointCard } from '../registry/export/checkpoint-card.ts';
import { known, publishCheckpoint } from '../registry/publish-checkpoint.ts';
import type { Registry } from '../registry/registry.ts';
import { request } from './contact/requests.ts';
import { fetchLossCurve } from './loss-curve.ts';
import { writePeftFolder } from './peft-folder.ts';
import { fetchOrRecheck } from './phases/recheck.ts';
import { withReader } from './reader.ts';

/** The swarm from which a checkpoint is fetched, and the folder to which the checkpoint is written. */
export interface PullOptions extends JobTarget {
  /** Folder for the PEFT files. It is created if it is missing. */
  readonly output: string;
  /**
   * Folder of the key with which this machine downloads checkpoints. The key stays the same, so that a personal invite
   * counts this machine only once. Ignored if no invite token is given, because each download then makes a new key.
   * @default SWARM_HOME/reader, else lora-swarm/reader in the user's data folder
   */
  readonly keyFolder?: string;
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
  // Bytes that an earlier call left are kept, even if this call fails before its own download begins.
  let keepPartial = existsSync(home);
  try {
    return await withReader({ ...options, home, signal }, { clock }, async (reader) => {
      const { network, blobs, coordinator, job, head } = reader;
      const manifest = head.settings ? withSettings(reader.manifest, head.settings.values) : reader.manifest;
      const { adapter, round, heldOutLoss } = head.checkpoint;
      keepPartial = true;
      const wanted = { job, digest: adapter.digest, coordinator };
      await fetchOrRecheck(wanted, { network, clock }, signal, () =>
        network.fetchBlob(adapter, {
          holders: [coordinator, ...head.included.map(({ peer }) => peer)],
          signal,
          onProgress: ({ bytes, total }) => onProgress?.({ round, bytes, total }),
        }),
      );
      await writePeftFolder(output, blobs.path(adapter.digest), manifest);
      const curve = await fetchLossCurve(reader, (body) =>
        request({ network, clock }, coordinator, 'record', body, signal),
      );
      await writeCard(output, { job, manifest, head, curve });
      keepPartial = false;
      const version = await publish(options, { job, manifest, head });
      return { job, name: manifest.name, round, heldOutLoss, version };
    });
  } finally {
    if (!keepPartial) await rm(home, { recursive: true, force: true });
  }
}

/** Adds the checkpoint to a registry, if the options name one. @returns the label of its version, or null */
async function publish(
  { output, registry, name }: PullOptions,
  { job, manifest, head }: { job: string; manifest: Manifest; head: Head },
): Promise<string | null> {
  if (registry === undefined) return null;
  const { digest, round, heldOutLoss } = head.checkpoint;
  const { version } = await publishCheckpoint(registry, {
    folder: output,
    job,
    manifest,
    checkpoint: { digest, round, metrics: known({ heldOutLoss, round }) },
    name,
    reason: 'lora-swarm checkpoint pull',
  });
  return version.label;
}

/** Writes the model card. The swarm gives strangers no figures on tasks, so the card has none. */
async function writeCard(
  output: string,
  { job, manifest, head, curve }: { job: string; manifest: Manifest; head: Head; curve: CurvePoint[] },
): Promise<void> {
  const { checkpoint } = head;
  const baseLoss = curve[0]?.round === 0 ? curve[0].heldOutLoss : null;
  const card = checkpointCard({ job, manifest, checkpoint, baseLoss, curve, figures: null });
  await writeFile(join(output, CARD_FILE), card);
}
