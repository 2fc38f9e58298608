import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { JobEvent, JobEventBody } from '../../protocol/api/job-events.ts';
import { encodeCbor, sha256 } from '../../protocol/cbor.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import { type Checkpoint, messageBytes } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { CoordinatorDeps } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { waitingReason } from '../round/round-cycle.ts';
import { type Admission, type JobSamples, type JobTasks, jobBlobs, type StoredJob } from '../store/store.ts';
import { makeHead } from './heads.ts';

/** A job whose base, data and first adapter are in the blob store, but which is not in the database yet. */
export interface PreparedJob {
  readonly manifest: Manifest;
  readonly layout: AdapterLayout;
  /** Packed held-out rows. They never leave the coordinator. */
  readonly heldOut: Uint8Array;
  readonly admission: Admission;
  /** Token of the job's shared invite; null if the job is open or admits a list of peers. */
  readonly token: string | null;
  /** Digest of all settings and data. Two jobs with the same name and the same content are the same job. */
  readonly content: string;
  /** Loss of the initial adapter on the held-out rows that the gate evaluates, in nats per token. */
  readonly baseLoss: number | null;
  /** Number of supervised tokens in the rows on which `baseLoss` was measured. */
  readonly baseTokens: number;
  /** Tasks on which checkpoints are evaluated. @default none */
  readonly tasks?: JobTasks | null;
  /** Prompts that the base and checkpoints continue. @default none */
  readonly samples?: JobSamples | null;
  /** Wherever the coordinator chooses between jobs, a job with a higher priority comes first. @default 0 */
  readonly priority?: number;
  /** The job that must end before the new job opens. @default the new job opens at once */
  readonly after?: { readonly job: string; readonly name: string } | null;
}

/** The first term of a job. Another coordinator that takes the job over must use a higher term. */
const FIRST_TERM = 1;

/**
 * Signs and records a job's manifest, its initial checkpoint and its first head, which has the phase `waiting`. The
 * caller must not call this function for two jobs at the same time, because jobs of the same name share a folder.
 * @returns the job and the events of its creation; no events if the job existed already
 * @throws SwarmError JOB_EXISTS, JOB_TOO_LARGE, STORE_FULL, WRITE_FAILED
 */
export async function recordJob(
  prepared: PreparedJob,
  { store, folders, network, clock, log }: CoordinatorDeps,
  scope: BlobScope,
): Promise<{ stored: StoredJob; events: JobEvent[] }> {
  const { manifest, layout, content, priority = 0, after = null, tasks = null, samples = null } = prepared;
  const known = findSameJob({ name: manifest.name, content }, store);
  if (known) return { stored: known, events: [] };

  assertManifestFits(manifest);
  const envelope = signMessage('manifest', manifest, network.signer);
  const { digest: job } = verifyMessage('manifest', envelope);
  const checkpoint = initialCheckpoint(job, prepared);
  const signed = signMessage('checkpoint', checkpoint, network.signer);
  const { digest } = verifyMessage('checkpoint', signed);
  await scope.put(encodeCbor(checkpoint));
  await folders.write({ manifest, layout, digest, checkpoint, envelope: signed });

  const stored: StoredJob = {
    job,
    name: manifest.name,
    content,
    manifest: envelope,
    layout,
    term: FIRST_TERM,
    admission: prepared.admission,
    token: prepared.token,
    baseLoss: prepared.baseLoss,
    ending: null,
    pauseCause: null,
    rollBackTo: null,
    rollBackReason: null,
    priority,
    afterJob: after?.job ?? null,
    createdAt: manifest.createdAt,
  };
  const { preset, count: rounds } = manifest.rounds;
  const head = makeHead(
    { job, term: FIRST_TERM, sequence: 1 },
    {
      phase: 'waiting',
      round: 1,
      preset: preset === 'auto' ? 'dense' : preset,
      assignments: [],
      deadlineMs: 0,
      reason:
        after === null ? waitingReason(manifest.rounds) : `it is queued until job ${after.name} has ended`,
      issuedAt: clock.now(),
    },
    { digest, checkpoint, ordinal: 0, residual: null },
  );
  const events = store.transaction(() => {
    store.jobs.insert(stored, prepared.heldOut);
    if (tasks !== null) store.tasks.set(job, tasks);
    if (samples !== null) store.samples.set(job, samples);
    const heldOutLoss = prepared.baseLoss;
    store.rounds.putCheckpoint(job, {
      round: 0,
      digest,
      envelope: signed,
      residual: null,
      heldOutLoss,
      restores: null,
    });
    store.blobs.use(job, 'job', 0, [...jobBlobs(manifest), digest]);
    store.blobs.use(job, 'adapter', 0, [checkpoint.adapter.digest]);
    store.jobs.putHead(job, 1, signMessage('head', head, network.signer));
    const { parameters } = manifest.adapter;
    const bodies: JobEventBody[] = [{ type: 'job-created', name: manifest.name, parameters, rounds }];
    if (after !== null) bodies.push({ type: 'queued', after: after.job, afterName: after.name });
    return bodies.map((body) => store.events.append(job, clock.now(), body));
  });
  await markJob(stored, { folders, log });
  return { stored, events };
}

/**
 * Writes the manifest of a job to the job's folder, so that a start of the coordinator notices if the database has lost
 * the job. A failure is only logged, because the job itself is durable, and the next start writes the file.
 */
export async function markJob(
  { name, manifest }: Pick<StoredJob, 'name' | 'manifest'>,
  { folders, log }: Pick<CoordinatorDeps, 'folders' | 'log'>,
): Promise<void> {
  await folders
    .recordJob(name, manifest)
    .catch((error: unknown) => log.warn({ job: name, err: error }, 'job-not-marked'));
}

/** Returns the manifest's size in bytes. @throws SwarmError JOB_TOO_LARGE if it is too large for a message */
export function assertManifestFits(manifest: Manifest): number {
  const size = encodeCbor(manifest).byteLength;
  if (size <= messageBytes.manifest) return size;
  throw coordinatorError(
    'JOB_TOO_LARGE',
    `the job's manifest has ${size} bytes, but a message can have at most ${messageBytes.manifest}`,
    { size, limit: messageBytes.manifest, shards: manifest.data.shards.length },
  );
}

/** Returns the digest of everything that the operator chose. Two jobs with the same name and digest are the same job. */
export function contentOf(
  { createdAt: _, coordinator: __, ...chosen }: Manifest,
  admission: Admission,
  tasks: JobTasks | null,
  samples: JobSamples | null,
): string {
  return sha256(encodeCbor({ ...chosen, admission, ...(tasks && { tasks }), ...(samples && { samples }) }));
}

/** Finds the stored job of this name. @throws SwarmError JOB_EXISTS if its settings or data differ */
export function findSameJob(
  { name, content }: { name: string; content: string },
  { jobs }: CoordinatorDeps['store'],
): StoredJob | null {
  const stored = jobs.byName(name);
  if (!stored || stored.content === content) return stored;
  const message = `job "${name}" exists already, with other settings or data`;
  throw coordinatorError('JOB_EXISTS', message, { name, job: stored.job });
}

/** Returns the checkpoint of round 0, which has the initial adapter. */
export function initialCheckpoint(
  job: string,
  { manifest, baseLoss, baseTokens }: Pick<PreparedJob, 'manifest' | 'baseLoss' | 'baseTokens'>,
): Checkpoint {
  return {
    job,
    term: FIRST_TERM,
    round: 0,
    base: manifest.base.digest,
    parent: null,
    adapter: manifest.adapter.initial,
    delta: null,
    contributors: [],
    metrics: {
      heldOutLoss: baseLoss,
      heldOutTokens: baseTokens,
      trainLoss: null,
      tokens: 0,
      seconds: 0,
      outerRate: 0,
      updateBytes: 0,
      drift: null,
    },
    createdAt: manifest.createdAt,
  };
}
