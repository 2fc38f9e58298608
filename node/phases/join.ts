import { type AdapterLayout, adapterSize } from '../../lora/adapter/layout.ts';
import { baseDigest } from '../../lora/models/base/base-identity.ts';
import { modelError } from '../../lora/models/errors.ts';
import { trainError } from '../../lora/train/errors.ts';
import type { JobKeysMessage } from '../../protocol/access/job-keys-message.ts';
import type { Manifest } from '../../protocol/job/manifest.ts';
import type { Head } from '../../protocol/messages.ts';
import type { Role } from '../../protocol/requests/member-status.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { obtainBaseFile } from '../blobs/obtain.ts';
import { connect, openJobs, reportBehind, requestJoin, verifyHead } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';
import { checkPolicy, demandOf } from '../limits/policy.ts';
import type { JobClaim } from '../store/job-files.ts';
import type { JoinOptions, PhaseDeps, PhasePort } from './port.ts';

/** A job that the coordinator has admitted the node to. The manifest and the head are verified. */
export interface JoinedJob {
  readonly job: string;
  readonly coordinator: string;
  readonly manifest: Manifest;
  readonly head: Head | null;
  /** Whether everyone may join the job. */
  readonly isOpen: boolean;
  /** Role of this node in the job. */
  readonly role: Role;
  /** Newest round for which the coordinator has an update of this node; null if there is none. */
  readonly delivered: number | null;
  readonly keys: JobKeysMessage;
}

/**
 * Connects to the coordinator and joins a job.
 * @param onClaim called before the node asks to join. From then on, no other invite of the node joins the same job of
 *   the same coordinator.
 * @throws SwarmError NO_ADDRESS, NO_OPEN_JOB, JOB_TWICE, JOB_COORDINATOR, MANIFEST_MISMATCH, BASE_DIGEST; errors of the
 *   network, of admission and of signatures
 */
export async function join(
  options: JoinOptions,
  deps: PhaseDeps,
  signal: AbortSignal,
  onClaim: (claim: JobClaim) => void,
): Promise<JoinedJob> {
  const coordinator = await connect(options.addresses, deps, signal);
  const job = options.job ?? (await firstOpenJob(options, deps, coordinator, signal));
  const claim = { coordinator, job };
  // If the node trained one job for two invites, it would sign two different updates of a round. The coordinator bans a
  // node for that.
  if (deps.siblings().some((sibling) => sibling.claims(claim))) {
    throw nodeError('JOB_TWICE', `another invite of this node is for the same job ${job}`, { job });
  }
  onClaim(claim);
  const answer = await requestJoin(options, deps, { coordinator, job }, signal);
  const { author, digest, message: manifest } = verifyMessage('manifest', answer.manifest);
  if (author !== coordinator || digest !== job) {
    throw nodeError(
      'MANIFEST_MISMATCH',
      `asked for job ${job} of ${coordinator}, but the answer is the manifest of job ${digest}, signed by ${author}`,
      { job, digest, coordinator, author },
    );
  }
  deps.store.jobFiles.bind(claim);
  const { base } = manifest;
  const found = baseDigest(base.files);
  if (found !== base.digest) {
    throw modelError(
      'BASE_DIGEST',
      `the job's base files have the digest ${found}, but its manifest says ${base.digest}`,
      { job, expected: base.digest, found },
      { next: 'ask the operator to create the job again' },
    );
  }
  const head = answer.head && verifyHead(answer.head, { coordinator, job });
  if (answer.head && head) {
    if (await reportBehind({ deps, coordinator, job }, head, signal)) {
      throw nodeError(
        'COORDINATOR_BEHIND',
        `the coordinator is at round ${head.round}, but this node has a later head that the coordinator has signed. The coordinator was probably restored from an old backup. It now asks its nodes for the newer state`,
        { job, coordinator, round: head.round },
      );
    }
    deps.store.kept.keepHead(job, head, answer.head);
  }
  const { admission, role, delivered, keys } = answer;
  const isOpen = admission === 'open';
  const kept = { job, coordinator, isOpen, key: { id: keys.id, key: keys.key } };
  deps.store.keptJobs.keep(kept, { manifest: answer.manifest, at: deps.clock.now() });
  return { job, coordinator, manifest, head, isOpen, role, delivered, keys };
}

async function firstOpenJob(
  options: JoinOptions,
  deps: PhaseDeps,
  coordinator: string,
  signal: AbortSignal,
): Promise<string> {
  const { open, over, others } = await openJobs(options, deps, coordinator, signal);
  if (open[0] !== undefined) return open[0];
  const { knownName = null } = options;
  const ended = knownName !== null && over.includes(knownName) ? knownName : null;
  const why = others ? ' that this node may join without another invite' : '';
  const message =
    ended === null
      ? `the coordinator has no open job${why}; waiting for one`
      : `the job ${ended} has ended, and the coordinator has no other open job${why}; waiting for its next job`;
  throw nodeError('NO_OPEN_JOB', message, { coordinator, others, ended });
}

/**
 * Checks that a job fits the limits of the machine's owner, together with the other jobs of the node that fit.
 * @throws SwarmError POLICY_*
 */
export function checkLimits({ manifest, deps, options }: PhasePort): void {
  const others = deps.siblings().flatMap(({ fittingManifest }) => fittingManifest ?? []);
  checkPolicy(manifest, options.policy, { trainers: options.trainers, others });
}

/**
 * Fetches the missing files of the base and prepares the trainer. The caller must call {@link checkLimits} first.
 * @throws SwarmError ADAPTER_SHAPE, BLOB_*, and errors of the trainer
 */
export async function prepare(
  context: PhasePort,
  head: Head | null,
  signal: AbortSignal,
): Promise<AdapterLayout> {
  const { manifest, deps } = context;
  await makeRoom(context);
  const { files } = manifest.base;
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { digest, size } of files) {
    await obtainBaseFile(
      context,
      { digest, size },
      {
        head,
        signal,
        onProgress: ({ bytes }) => context.onDownload({ what: 'base', bytes: done + bytes, total }),
      },
    );
    done += size;
  }
  context.onDownload(null);
  const layout = await deps.trainer.prepare(manifest, { signal });
  const parameters = adapterSize(layout);
  if (parameters !== manifest.adapter.parameters) {
    throw trainError(
      'ADAPTER_SHAPE',
      `the adapter for this base has ${parameters} parameters, but the manifest says ${manifest.adapter.parameters}`,
      { parameters, expected: manifest.adapter.parameters },
      {
        next: 'run the same version of lora-swarm as the coordinator; if it is the same, tell the operator of the job',
      },
    );
  }
  return layout;
}

/**
 * Registers the job's base and data. Deletes the files of jobs that are over. Also deletes files of other jobs while
 * all jobs together need more disk space than the machine's owner lends.
 */
async function makeRoom(context: PhasePort): Promise<void> {
  const { deps, collector, manifest, job, options } = context;
  const { jobFiles } = deps.store;
  jobFiles.register({
    job,
    name: manifest.name,
    base: manifest.base.digest,
    blobs: [...manifest.base.files, ...manifest.data.shards].map(({ digest }) => digest),
    diskBytes: demandOf(manifest).disk,
    at: deps.clock.now(),
  });
  const siblings = deps.siblings();
  const jobsOf = (isDone: boolean): string[] =>
    siblings.flatMap((sibling) => (sibling.isDone === isDone ? (sibling.job ?? []) : []));
  const jobs = { active: new Set([job, ...jobsOf(false)]), finished: new Set(jobsOf(true)) };
  const surplus = jobFiles.surplus(jobs, options.policy.maxDiskBytes);
  if (surplus.length === 0) return;
  for (const other of surplus) jobFiles.release(other);
  deps.log.info({ jobs: surplus }, 'job-files-released');
  await deps.trainer.keepBases(jobFiles.bases());
  await collector.sweep();
}
