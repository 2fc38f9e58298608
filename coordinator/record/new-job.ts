import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import type { JobEvent } from '../../monitor/job-events.ts';
import { encodeCbor } from '../../protocol/cbor.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import { type Checkpoint, messageBytes } from '../../protocol/messages.ts';
import { signMessage, verifyMessage } from '../../protocol/signing.ts';
import type { BlobScope } from '../../storage/blob-collector.ts';
import type { CoordinatorDeps } from '../context.ts';
import { coordinatorError } from '../errors.ts';
import { jobBlobs } from '../jobs/blobs.ts';
import type { Admission } from '../peers/admission.ts';
import { waitingReason } from '../round/round-machine.ts';
import type { StoredJob } from '../store/store.ts';
import { makeHead } from './heads.ts';

/** A job whose base, data and first adapter are in the blob store, and that nobody has heard of yet. */
export interface PreparedJob {
  readonly manifest: Manifest;
  readonly layout: AdapterLayout;
  /** Packed held-out rows: stay here. */
  readonly heldOut: Uint8Array;
  readonly admission: Admission;
  /** Of the job's invites; null for open jobs and lists. */
  readonly token: string | null;
  /** Digest of everything that the operator chose: the same name with the same content is the same job. */
  readonly content: string;
  /** Held-out loss of the base, over the rows that the gate looks at, and their predicted tokens. */
  readonly baseLoss: number | null;
  readonly baseTokens: number;
}

/** The first term of a job; a takeover raises it. */
const FIRST_TERM = 1;

/**
 * Signs a job's manifest and initial checkpoint and makes both durable, with a first head that waits for nodes. To be
 * called for one job at a time.
 * @returns the job, and the event of its creation; null when it was there already
 * @throws SwarmError JOB_EXISTS, JOB_TOO_LARGE, STORE_FULL, WRITE_FAILED
 */
export async function recordJob(
  prepared: PreparedJob,
  { store, folders, network, clock }: CoordinatorDeps,
  scope: BlobScope,
): Promise<{ stored: StoredJob; event: JobEvent | null }> {
  const { manifest, layout, content } = prepared;
  const known = existing({ name: manifest.name, content }, store);
  if (known) return { stored: known, event: null };

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
      reason: waitingReason(manifest.rounds),
      issuedAt: clock.now(),
    },
    { digest, checkpoint, ordinal: 0, residual: null },
  );
  return store.transaction(() => {
    store.jobs.insert(stored, prepared.heldOut);
    const heldOutLoss = prepared.baseLoss;
    store.rounds.putCheckpoint(job, { round: 0, digest, envelope: signed, residual: null, heldOutLoss });
    store.blobs.use(job, 'job', 0, [...jobBlobs(manifest), digest]);
    store.blobs.use(job, 'adapter', 0, [checkpoint.adapter.digest]);
    store.jobs.putHead(job, 1, signMessage('head', head, network.signer));
    const { parameters } = manifest.adapter;
    const event = store.events.append(job, clock.now(), {
      type: 'job-created',
      name: manifest.name,
      parameters,
      rounds,
    });
    return { stored, event };
  });
}

/** @returns the manifest's size in bytes @throws SwarmError JOB_TOO_LARGE */
export function assertManifestFits(manifest: Manifest): number {
  const size = encodeCbor(manifest).byteLength;
  if (size <= messageBytes.manifest) return size;
  throw coordinatorError(
    'JOB_TOO_LARGE',
    `the job's manifest has ${size} bytes, at most ${messageBytes.manifest} can be sent; use less data or fewer files`,
    { size, limit: messageBytes.manifest, shards: manifest.data.shards.length },
  );
}

/** The stored job of that name, which must be the same. @throws SwarmError JOB_EXISTS */
export function existing(
  { name, content }: { name: string; content: string },
  { jobs }: CoordinatorDeps['store'],
): StoredJob | null {
  const stored = jobs.byName(name);
  if (!stored || stored.content === content) return stored;
  const message = `there is a job "${name}" with other settings or data; choose another name`;
  throw coordinatorError('JOB_EXISTS', message, { name, job: stored.job });
}

/** Round 0 of a job: the adapter that does nothing yet. */
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
