import type { ApiClient } from '../../index.ts';
import { isDaemonAway, readDaemonFile } from '../../storage/daemon-home.ts';
import type { Context } from '../context.ts';

/** Returns the API of the node that runs in a home; null if no node runs there. */
export async function runningNode(
  { signal }: Pick<Context, 'signal'>,
  home: string,
): Promise<ApiClient | null> {
  if ((await readDaemonFile(home, 'node')) === null) return null;
  const { connect } = await import('../../index.ts');
  try {
    const api = await connect({ home }, { role: 'node', signal });
    await api.status();
    return api;
  } catch (error) {
    if (isDaemonAway(error)) return null;
    throw error;
  }
}
