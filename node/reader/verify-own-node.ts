import { withAbortReason } from '../../common/abort-reason.ts';
import { systemClock } from '../../common/time/system-clock.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { RpcRequest } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { FileBlobStore } from '../../storage/blob-store.ts';
import { openNodeRecord } from '../../verify/node-record.ts';
import { type VerifyOptions, type VerifyReport, verifyRecord } from '../../verify/verify-job.ts';
import { verifyHead } from '../contact/requests.ts';
import { nodeError } from '../errors.ts';
import type { KeptJob } from '../store/kept-jobs.ts';
import { NodeStore } from '../store/node-store.ts';
import { databaseOf } from '../store/own-jobs.ts';
import { recordPage } from '../store/record-page.ts';

/** The home of a node, and one of its jobs. */
export interface OwnNodeJob {
  /** Home of the node. The node may be running. */
  readonly home: string;
  /** Name of the job, its digest, or the beginning of the digest. @default the only job of the node */
  readonly job?: string | undefined;
}

/**
 * Verifies the part of a job's record that a node of this machine keeps. Needs no network, and changes nothing in the home.
 * @throws SwarmError JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, STORE_*, and the errors of `verifyRecord`
 */
export function verifyOwnNode(
  { home, job: wanted }: OwnNodeJob,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const { signal = new AbortController().signal } = options;
  return withAbortReason(signal, async () => {
    const store = NodeStore.read(databaseOf(home));
    try {
      const { job, coordinator } = choose(store, home, wanted);
      const signedHead = store.kept.head(job);
      if (signedHead === null) {
        throw nodeError(
          'CHECKPOINT_UNTRUSTED',
          `the node in ${home} has no head of the job`,
          { home, job },
          { next: 'start the node until it has joined the job, or verify a bundle of the job' },
        );
      }
      const head = verifyHead(signedHead, { coordinator, job });
      const manifest = store.keptJobs.manifest(job)!;
      // The daemon of the home may be running, and writes to the same store.
      const blobs = await FileBlobStore.open({ home, shared: true }, { clock: systemClock });
      // `blobs.get` would delete a damaged blob. The verification reports the damage, and must change nothing.
      const fetch = async ({ digest, size }: { digest: string; size: number }): Promise<Uint8Array | null> =>
        (await blobs.has(digest)) ? blobs.read(digest, 0, size) : null;
      const read = { job, peer: home, manifest, head, signedHead };
      const record = await openNodeRecord(read, {
        network: localNetwork(store),
        clock: systemClock,
        signal,
        fetch,
      });
      return await verifyRecord(record, { coordinator, ...options, job, signal });
    } finally {
      store.close();
    }
  });
}

/** Returns a network whose only peer answers the requests of a verification from a store, as the running node does. */
function localNetwork(store: NodeStore): Pick<SwarmNetwork, 'request'> {
  const request = async (_peer: string, method: string, body: unknown): Promise<unknown> => {
    if (method === 'record') return recordPage(body as RpcRequest<'record'>, store);
    if (method === 'figures') {
      const { job, round } = body as RpcRequest<'figures'>;
      return { figures: store.keptMerges.figures(job, round) };
    }
    const { job, record } = body as RpcRequest<'settings'>;
    return { settings: store.kept.settings(job, record) };
  };
  return { request: request as SwarmNetwork['request'] };
}

/** Returns the named job. If several match, returns the job that the node joined last. */
function choose({ keptJobs }: NodeStore, home: string, wanted: string | undefined): KeptJob {
  const named = keptJobs.all.map((one) => {
    const { name } = verifyMessage('manifest', keptJobs.manifest(one.job)!).message;
    return { ...one, name };
  });
  const matches = named.filter(
    ({ job, name }) =>
      wanted === undefined || name === wanted || (/^[0-9a-f]{4,64}$/.test(wanted) && job.startsWith(wanted)),
  );
  const found = matches.at(-1);
  if (found !== undefined && (wanted !== undefined || matches.length === 1)) return found;
  const names = [...new Set(named.map(({ name }) => name))].join(', ');
  const text =
    wanted === undefined
      ? `the node in ${home} has ${named.length} jobs`
      : `the node in ${home} has joined no job "${wanted}"`;
  throw nodeError(
    'JOB_NOT_FOUND',
    names === '' ? text : `${text}: ${names}`,
    { home, job: wanted ?? null },
    { next: names === '' ? 'name the home of the node with --home' : 'name one of these jobs' },
  );
}
