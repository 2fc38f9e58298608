import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withDeadline } from '../common/deadline.ts';
import { formatBytes } from '../common/text.ts';
import { MAX_ADAPTER_HEADER_BYTES } from '../lora/adapter/codec.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../lora/adapter/peft.ts';
import { encodePeftConfig } from '../lora/adapter/peft-config.ts';
import { readHeader } from '../lora/models/safetensors.ts';
import { silentLogger } from '../monitor/log.ts';
import { createHost } from '../net/host.ts';
import { loadIdentity } from '../net/identity.ts';
import type { SwarmNetwork } from '../net/network.ts';
import { DIAL_TIMEOUT_MS, RPC_TIMEOUT_MS } from '../protocol/limits.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { Head } from '../protocol/messages.ts';
import { verifyMessage } from '../protocol/signing.ts';
import { FileBlobStore } from '../storage/blob-store.ts';
import type { Context } from './context.ts';
import { cliError } from './error-codes.ts';
import { ProgressLine } from './print.ts';

export interface PullTarget {
  addresses: readonly string[];
  job: string | null;
  invite: string | null;
}

export interface Pulled {
  job: string;
  name: string;
  round: number;
  heldOutLoss: number | null;
}

/**
 * Fetches the newest checkpoint from a swarm into a PEFT folder. What has arrived lies in `<output>.partial` until all
 * is there, so that a second try goes on where the first one ended.
 * @throws SwarmError CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, and what network and admission refuse with
 */
export async function pullCheckpoint(context: Context, target: PullTarget, output: string): Promise<Pulled> {
  const home = `${output}.partial`;
  const { clock, signal } = context;
  // Of an earlier try, whose bytes are not to be lost.
  let worthKeeping = existsSync(home);
  const blobs = await FileBlobStore.open({ home }, { clock });
  const identity = await loadIdentity(home);
  const network = await createHost(
    { listen: [], bootstrap: [], mdns: [], home, agent: `lora-swarm/${context.version}` },
    { identity, blobs, log: silentLogger, clock },
  );
  const progress = new ProgressLine(context);
  try {
    const coordinator = await connect(network, target.addresses, context);
    const { job, manifest, head } = await ask(network, coordinator, target, context);
    const { adapter, round, heldOutLoss } = head.checkpoint;
    worthKeeping = true;
    await network.fetchBlob(adapter, {
      holders: [coordinator, ...head.included.map(({ peer }) => peer)],
      signal,
      onProgress: ({ bytes, total }) =>
        progress.update(`adapter of round ${round}: ${formatBytes(bytes)} of ${formatBytes(total)}`),
    });
    await writeFolder(output, blobs.path(adapter.digest), manifest);
    worthKeeping = false;
    return { job, name: manifest.name, round, heldOutLoss };
  } finally {
    progress.clear();
    await network.stop();
    if (!worthKeeping) await rm(home, { recursive: true, force: true });
  }
}

async function connect(
  network: SwarmNetwork,
  addresses: readonly string[],
  { clock, signal }: Context,
): Promise<string> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return await withDeadline(
        { clock, ms: DIAL_TIMEOUT_MS, signal, what: `dialling ${address}` },
        (inner) => network.connect(address, { signal: inner }),
      );
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}

/** The job's manifest and newest head, both signed by the coordinator that was asked for. */
async function ask(
  network: SwarmNetwork,
  coordinator: string,
  { job: named, invite }: PullTarget,
  { clock, signal }: Context,
): Promise<{ job: string; manifest: Manifest; head: Head }> {
  const deadline = <T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    withDeadline({ clock, ms: RPC_TIMEOUT_MS, signal, what }, work);
  const { jobs } = await deadline('asking for jobs', (inner) =>
    network.request(coordinator, 'jobs', {}, { signal: inner }),
  );
  const job = named ?? (jobs.length === 1 ? jobs[0]!.job : null);
  if (job === null) {
    throw cliError(
      'JOB_NOT_FOUND',
      `the coordinator runs ${jobs.length} jobs`,
      { jobs },
      {
        next:
          jobs.length === 0
            ? 'ask its operator'
            : `name one with --job: ${jobs.map((j) => `${j.name} ${j.job}`).join(', ')}`,
      },
    );
  }
  const told = await deadline('asking for the job', (inner) =>
    network.request(coordinator, 'manifest', { job, invite }, { signal: inner }),
  );
  const manifest = verifyMessage('manifest', told.manifest);
  const head = told.head === null ? null : verifyMessage('head', told.head);
  const trusted =
    manifest.digest === job &&
    manifest.author === coordinator &&
    head?.author === coordinator &&
    head.message.job === job;
  if (head === null || !trusted) {
    throw cliError(
      'CHECKPOINT_UNTRUSTED',
      head === null
        ? 'the job has no checkpoint yet'
        : 'the coordinator answered with messages that are not its own',
      { job, coordinator },
      { next: head === null ? 'try again later' : 'check the invite with whoever gave it to you' },
    );
  }
  return { job, manifest: manifest.message, head: head.message };
}

async function writeFolder(output: string, weights: string, { lora, base }: Manifest): Promise<void> {
  const { entries } = await readHeader(weights, MAX_ADAPTER_HEADER_BYTES);
  const layout = [...entries.keys()].map((name) => ({ name }));
  await mkdir(output, { recursive: true });
  const target = join(output, ADAPTER_WEIGHTS_FILE);
  await rm(target, { force: true });
  await link(weights, target).catch(() => copyFile(weights, target));
  const config = { lora, baseModelName: base.name, revision: base.revision ?? null };
  await writeFile(join(output, ADAPTER_CONFIG_FILE), encodePeftConfig(config, layout));
}
