import { FairQuota, type FairQuotaOptions } from '../../common/limits/fair-quota.ts';
import { netError } from '../../net/errors.ts';
import type { BlobProof } from '../../protocol/access/job-key.ts';
import { RPC_TIMEOUT_MS } from '../../protocol/limits.ts';
import { nodeError } from '../errors.ts';
import { servesNoFiles } from '../limits/pauses.ts';
import { recordPage } from '../store/record-page.ts';
import type { NodeDeps } from './context.ts';

/**
 * One limit on the calls of all peers together, because one person can have any number of peers. An answer takes about a
 * millisecond, or up to 10 ms if a witness keeps the proofs of 512 contributors. One verification makes 2 calls per second.
 */
const READERS: FairQuotaOptions = {
  calls: 60,
  perMs: 10_000,
  /** Maximum wait of a call: 2 s less than the time limit of a request, so that the answer arrives in time. */
  patienceMs: RPC_TIMEOUT_MS - 2_000,
  sliceMs: 8,
};

interface ReaderDeps extends Pick<NodeDeps, 'network' | 'store' | 'clock' | 'pauses'> {
  /** Returns whether a peer may read a job, given its proof that it has the job key. */
  readonly mayRead: (peer: string, job: string, proof: BlobProof | null) => boolean;
}

/**
 * Answers the requests of peers that verify a job, from the messages that this node keeps. Peers ask nodes if the
 * coordinator is gone. Returns functions, each of which stops the answers to one method.
 */
export function answerReaders({ network, store, clock, pauses, mayRead }: ReaderDeps): (() => void)[] {
  const quota = new FairQuota(READERS, { clock });
  const admit = async (
    peer: string,
    { job, proof }: { job: string; proof?: BlobProof | undefined },
    signal: AbortSignal,
  ): Promise<void> => {
    const check = (): void => {
      // A peer that may not read the job gets the same answer as for a job that this node is not in.
      if (!mayRead(peer, job, proof ?? null)) {
        const text = 'this node gives records of the job only to peers that prove that they have the job key';
        throw nodeError('JOB_NOT_READABLE', text, { job });
      }
      if (pauses !== undefined && servesNoFiles(pauses)) {
        const text = 'this node has used up the traffic that its owner allows for this month';
        throw nodeError('NODE_TRAFFIC_USED', text);
      }
    };
    check();
    const claim = { address: network.networkOf(peer), peer, known: false };
    if (!(await quota.take(claim, { signal }))) {
      const { calls, perMs } = READERS;
      const text = `all readers together make more than ${calls} calls in ${perMs / 1000} s, and this call waited for too long`;
      throw netError('RPC_RATE_LIMITED', text);
    }
    check();
  };
  return [
    network.handle('manifest', async (peer, request, { signal }) => {
      await admit(peer, request, signal);
      const { job } = request;
      return { manifest: store.keptJobs.manifest(job)!, head: store.kept.head(job) };
    }),
    network.handle('settings', async (peer, request, { signal }) => {
      await admit(peer, request, signal);
      return { settings: store.kept.settings(request.job, request.record) };
    }),
    network.handle('figures', async (peer, request, { signal }) => {
      await admit(peer, request, signal);
      return { figures: store.keptMerges.figures(request.job, request.round) };
    }),
    network.handle('record', async (peer, request, { signal }) => {
      await admit(peer, request, signal);
      return recordPage(request, store);
    }),
  ];
}
