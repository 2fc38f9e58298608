import { expect } from 'vitest';
import { settingsAt, verifySettings } from '../../../protocol/settings-chain.ts';
import { verifyMessage } from '../../../protocol/signing.ts';
import { COORDINATOR, type World } from './world.ts';

/** Returns the changes of the settings and the checkpoints, after a witness has verified them. */
export function witnessed({ store, toy }: World) {
  const changes = verifySettings(store.jobs.settings(toy.job), {
    job: toy.job,
    coordinator: COORDINATOR.peerId,
  });
  const checkpoints = store.rounds.checkpoints(toy.job).map(({ envelope }) => {
    const { message } = verifyMessage('checkpoint', envelope);
    const at = settingsAt(changes, message.round);
    expect(message.settings, `settings of checkpoint ${message.round}`).toBe(at?.digest);
    return { round: message.round, adapter: message.adapter.digest, settings: message.settings ?? null };
  });
  return { changes, checkpoints };
}
