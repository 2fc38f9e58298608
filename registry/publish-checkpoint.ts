import { baseDigest } from '../lora/models/base/base-identity.ts';
import { encodeCbor, sha256 } from '../protocol/cbor.ts';
import type { Checkpoint } from '../protocol/messages.ts';
import type { VersionManifest } from '../protocol/version-manifest.ts';
import { addFolder } from './add-folder.ts';
import type { CurvePoint } from './export/checkpoint-card.ts';
import { type JobHistory, jobSettings } from './job-settings.ts';
import { TOKENIZER_FILES } from './known-base.ts';
import { startOf } from './publish-run.ts';
import { LATEST } from './reference.ts';
import type { Registry } from './registry.ts';
import type { AdapterVersion } from './version.ts';
import { rollBacksOf, versionCurve } from './version-curve.ts';

/** A checkpoint of a job to publish. */
export interface CheckpointToPublish extends JobHistory {
  /** PEFT folder with the weights of the checkpoint. */
  readonly folder: string;
  /** Digest of the job. */
  readonly job: string;
  readonly checkpoint: {
    /** Digest of the signed checkpoint. */
    readonly digest: string;
    readonly round: number;
    readonly metrics: VersionManifest['metrics'];
  };
  /** Held-out losses of the checkpoints up to this one, oldest first. @default unknown */
  readonly curve?: readonly CurvePoint[];
  /** The newest roll-backs of the job up to this checkpoint, oldest first. @default the roll-backs in `curve` */
  readonly rollBacks?: VersionManifest['rollBacks'];
  /** Name of the adapter. @default the name of the job */
  readonly name?: string | undefined;
  /** Reason for the publication, which the tag log shows. @default "checkpoint of a job" */
  readonly reason?: string;
  /** Tags besides `latest` to move to the version. @default none */
  readonly tags?: readonly string[];
}

/**
 * Adds a checkpoint of a job as a version, with the job's settings, the digests of its data, the losses of the checkpoint,
 * and the version that the job started from.
 * @throws the errors of `addFolder`
 */
export function publishCheckpoint(
  registry: Registry,
  {
    folder,
    job,
    manifest,
    changes,
    checkpoint,
    curve = [],
    rollBacks = rollBacksOf(curve),
    name = manifest.name,
    reason = 'checkpoint of a job',
    tags = [],
  }: CheckpointToPublish,
): Promise<{ version: AdapterVersion; created: boolean }> {
  const { base, data } = manifest;
  const { digest, round, metrics } = checkpoint;
  const tokenizer = baseDigest(base.files.filter(({ path }) => TOKENIZER_FILES.has(path)));
  const shards = data.shards.map((shard) => shard.digest);
  return addFolder(registry, {
    name,
    folder,
    base: {
      base: { name: base.name, revision: base.revision ?? null, digest: base.digest, tokenizer },
      folder: null,
    },
    parents: startOf({ version: null, digest: manifest.adapter.initial.digest }, 'job', registry),
    job: { digest: job, name: manifest.name, checkpoint: digest, round },
    data: [
      { name: 'train', digest: sha256(encodeCbor(shards)) },
      { name: 'held-out', digest: data.heldOut.digest },
    ],
    settings: jobSettings({ manifest, changes }, round),
    metrics,
    curve: versionCurve(curve.map((point) => ({ at: point.round, loss: point.heldOutLoss }))),
    rollBacks,
    reason,
    // A roll-back gives a job an adapter that is already there, and its newest checkpoint is the latest version all the
    // same.
    tags: [LATEST, ...tags],
  });
}

/** Returns the version of a checkpoint under a name, even if it has been removed; null if it was never published. */
export function publishedVersion(
  registry: Registry,
  name: string,
  checkpoint: string,
): AdapterVersion | null {
  const versions = registry.versions(name, { removed: true });
  return versions.find(({ manifest }) => manifest.job?.checkpoint === checkpoint) ?? null;
}

/** Converts a checkpoint of a job to the form that `publishCheckpoint` expects. */
export function publishable(digest: string, { round, contributors, metrics }: Checkpoint) {
  const { heldOutLoss, heldOutTokens, trainLoss, tokens, seconds, drift } = metrics;
  const nodes = new Set(contributors.map(({ peer }) => peer)).size;
  const all = { heldOutLoss, heldOutTokens, trainLoss, round, tokens, seconds, drift, nodes };
  return { digest, round, metrics: known(all) };
}

/** Returns the metrics that are not null. */
export function known(metrics: Readonly<Record<string, number | null>>): VersionManifest['metrics'] {
  return Object.fromEntries(
    Object.entries(metrics).filter((entry): entry is [string, number] => entry[1] !== null),
  );
}
