import { coordinatorError } from './errors.ts';

/** Checks that a checkpoint still has its weights. @throws SwarmError CHECKPOINT_PRUNED */
export function requireKept({ round, kept }: { round: number; kept: boolean }): void {
  if (kept) return;
  throw coordinatorError(
    'CHECKPOINT_PRUNED',
    `the weights of round ${round} have been deleted; only the signed record of the checkpoint is left`,
    { round },
    {
      next:
        '"lora-swarm checkpoint list" shows which rounds still have weights; to keep all weights from now on, start the ' +
        'coordinator with --keep-checkpoints 0',
    },
  );
}
