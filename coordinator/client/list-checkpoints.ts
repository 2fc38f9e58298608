import type { CheckpointView } from '../../protocol/api/coordinator.ts';
import { type ApiConnection, jobPath } from './api-connection.ts';

/**
 * Returns the checkpoints of a job, newest first. A long list takes several requests.
 * @param options.enough number of checkpoints after which no further request is made. @default unlimited
 */
export async function listCheckpoints(
  connection: ApiConnection,
  id: string,
  { enough = Infinity }: { enough?: number } = {},
): Promise<CheckpointView[]> {
  const all: CheckpointView[] = [];
  let before = Number.MAX_SAFE_INTEGER;
  while (before > 0 && all.length < enough) {
    const path = `${jobPath(id)}/checkpoints?before=${before}`;
    const { checkpoints } = await connection.get<{ checkpoints: CheckpointView[] }>(path);
    all.push(...checkpoints);
    before = checkpoints.at(-1)?.round ?? 0;
  }
  return all;
}
