import { withDeadline } from '../../common/deadline.ts';
import { adapterSize } from '../../lora/adapter/layout.ts';
import { baseDigest } from '../../lora/models/base-identity.ts';
import { modelError } from '../../lora/models/errors.ts';
import { trainError } from '../../lora/train/errors.ts';
import { DIAL_TIMEOUT_MS, RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { Head } from '../../protocol/messages.ts';
import type { RpcMethod, RpcRequest, RpcResponse } from '../../protocol/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import {
  holdersOf,
  type PhaseContext,
  type ReadyContext,
  type SwarmNodeDeps,
  type SwarmNodeOptions,
} from '../context.ts';
import { nodeError } from '../errors.ts';
import { checkPolicy, demandOf } from '../policy.ts';

/** A job as its coordinator presents it, checked. */
export interface Invitation {
  readonly job: string;
  readonly coordinator: string;
  readonly manifest: Manifest;
  readonly head: Head | null;
}

/**
 * Connects to the coordinator and asks to take part.
 * @throws SwarmError NO_ADDRESS, NO_OPEN_JOB, MANIFEST_MISMATCH, BASE_DIGEST, and what network, admission and signatures refuse
 */
export async function contact(
  options: SwarmNodeOptions,
  deps: SwarmNodeDeps,
  signal: AbortSignal,
): Promise<Invitation> {
  const coordinator = await connect(options, deps, signal);
  const job = options.job ?? (await openJobs(deps, coordinator, signal))[0];
  if (!job) {
    throw nodeError('NO_OPEN_JOB', 'the coordinator runs no job at present; the node waits for one', {
      coordinator,
    });
  }
  const answer = await rejoin(options, deps, { coordinator, job }, signal);
  const { author, digest, message: manifest } = verifyMessage('manifest', answer.manifest);
  if (author !== coordinator || digest !== job) {
    throw nodeError(
      'MANIFEST_MISMATCH',
      `the coordinator ${coordinator} answered with the manifest ${digest} of ${author} for job ${job}`,
      { job, digest, coordinator, author },
    );
  }
  const { base } = manifest;
  const found = baseDigest(base.files);
  if (found !== base.digest) {
    throw modelError(
      'BASE_DIGEST',
      `the job's base files have the digest ${found}, its manifest says ${base.digest}; its coordinator has to make it anew`,
      { job, expected: base.digest, found },
    );
  }
  const head = answer.head && openHead(answer.head, { coordinator, job });
  return { job, coordinator, manifest, head };
}

/** Tells the coordinator that this node takes part; asking again is harmless. */
export function rejoin(
  options: SwarmNodeOptions,
  deps: SwarmNodeDeps,
  { coordinator, job }: { coordinator: string; job: string },
  signal: AbortSignal,
): Promise<RpcResponse<'join'>> {
  const { name, agent, invite } = options;
  const { engine } = deps.trainer;
  const { tokensPerSecond } = deps.store.job(job);
  const sentAt = deps.clock.now();
  const about = { name, agent, engine, tokensPerSecond, sentAt };
  return ask(deps, coordinator, 'join', { job, invite, ...about }, signal);
}

/** Jobs of a coordinator that are not over, in its order. */
export async function openJobs(
  deps: SwarmNodeDeps,
  coordinator: string,
  signal: AbortSignal,
): Promise<string[]> {
  const { jobs } = await ask(deps, coordinator, 'jobs', {}, signal);
  return jobs.filter(({ phase }) => phase !== 'finished' && phase !== 'failed').map(({ job }) => job);
}

/** @throws SwarmError HEAD_MISMATCH when it is not of this job or not its coordinator's, and as `open` */
export function openHead(bytes: Uint8Array, expected: { coordinator: string; job: string }): Head {
  const { author, message } = verifyMessage('head', bytes);
  if (author === expected.coordinator && message.job === expected.job) return message;
  throw nodeError('HEAD_MISMATCH', `a head of job ${message.job}, signed by ${author}`, {
    job: message.job,
    author,
    expected,
  });
}

/** One request with the deadline that all of them have. */
export function ask<M extends RpcMethod>(
  deps: SwarmNodeDeps,
  peer: string,
  method: M,
  body: RpcRequest<M>,
  signal: AbortSignal,
): Promise<RpcResponse<M>> {
  return withDeadline(
    { clock: deps.clock, ms: RPC_TIMEOUT_MS, signal, what: `the request "${method}"` },
    (inner) => deps.network.request(peer, method, body, { signal: inner }),
  );
}

/**
 * Fetches what is missing of the base and gets the trainer ready.
 * @throws SwarmError POLICY_* (the owner does not lend that much), BLOB_*, and what the trainer refuses
 */
export async function prepare(
  context: PhaseContext,
  head: Head | null,
  signal: AbortSignal,
): Promise<ReadyContext> {
  const { manifest, deps, options } = context;
  checkPolicy(manifest, options.policy, options.trainers);
  await makeRoom(context);
  const { files } = manifest.base;
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { digest, size } of files) {
    if (!(await deps.blobs.has(digest))) {
      await deps.network.fetchBlob(
        { digest, size },
        {
          holders: holdersOf(context, head),
          signal,
          onProgress: ({ bytes }) => context.onDownload({ what: 'base', bytes: done + bytes, total }),
        },
      );
    }
    done += size;
  }
  context.onDownload(null);
  const layout = await deps.trainer.prepare(manifest, { signal });
  const parameters = adapterSize(layout);
  if (parameters !== manifest.adapter.parameters) {
    throw trainError(
      'ADAPTER_SHAPE',
      `the base gives an adapter of ${parameters} parameters, the manifest says ${manifest.adapter.parameters}`,
      { parameters, expected: manifest.adapter.parameters },
    );
  }
  return { ...context, layout };
}

/** Takes the job's base and data into the books, and lets go of other jobs' where the owner lends no more. */
async function makeRoom({ deps, collector, manifest, job, options }: PhaseContext): Promise<void> {
  const { jobFiles } = deps.store;
  jobFiles.enter({
    job,
    base: manifest.base.digest,
    blobs: [...manifest.base.files, ...manifest.data.shards].map(({ digest }) => digest),
    diskBytes: demandOf(manifest).disk,
    at: deps.clock.now(),
  });
  const going = jobFiles.surplus(job, options.policy.maxDiskBytes);
  if (going.length === 0) return;
  for (const other of going) jobFiles.letGo(other);
  deps.log.info({ jobs: going }, 'jobs-let-go');
  await deps.trainer.keepBases(jobFiles.bases());
  await collector.sweep();
}

async function connect(
  { addresses }: SwarmNodeOptions,
  { network, clock }: SwarmNodeDeps,
  signal: AbortSignal,
): Promise<string> {
  let last: unknown = nodeError('NO_ADDRESS', 'no address of a coordinator was given; pass an invite', {});
  for (const address of addresses) {
    try {
      const what = `connecting to ${address}`;
      return await withDeadline({ clock, ms: DIAL_TIMEOUT_MS, signal, what }, (inner) =>
        network.connect(address, { signal: inner }),
      );
    } catch (error) {
      signal.throwIfAborted();
      last = error;
    }
  }
  throw last;
}
