import { obtain } from '../blobs/obtain.ts';
import { isDone } from '../machine/state.ts';
import type { JobContext } from './context.ts';
import type { MachineRunner } from './machine-runner.ts';
import type { Tasks } from './tasks.ts';

/**
 * Fetches a blob of a job again after the blob was found damaged and deleted. If the blob is a file of the base, the
 * node joins the job again, because joining fetches the base and loads it into the trainer.
 */
export function replaceBlob(
  context: JobContext,
  digest: string,
  { runner, tasks }: { runner: MachineRunner; tasks: Tasks },
): void {
  const { manifest, job, deps } = context;
  const { state } = runner;
  if (manifest.base.files.some((file) => file.digest === digest)) {
    // A node that is done trains no more, so it needs no base.
    const reason = 'a file of the base was damaged on this disk';
    if (!isDone(state)) runner.dispatch({ type: 'prepare-again', reason });
    return;
  }
  const shard = manifest.data.shards.find((one) => one.digest === digest);
  const { adapter, adapterBytes } = deps.store.job(job);
  const size = shard?.size ?? (adapter === digest ? adapterBytes : null);
  if (size === null) return;
  tasks.run('replace-blob', async () => {
    await obtain(context, { digest, size }, { head: state.head, signal: tasks.life });
    deps.log.info({ digest }, 'blob-replaced');
  });
}
