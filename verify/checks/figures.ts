import { messageOf } from '../../common/errors.ts';
import type { ClaimedUpdate } from '../../protocol/evidence.ts';
import type { Checkpoint, Figures } from '../../protocol/messages.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Findings } from '../findings.ts';
import type { JobFacts } from '../job-facts.ts';

/**
 * Checks that the published scores of a merge are signed, are of this merge, and fit the contributors.
 * @returns the verified figures; null if there are none
 */
export function checkFigures(
  { coordinator, job, record }: JobFacts,
  envelope: Uint8Array | null,
  { checkpoint, updates }: { checkpoint: Checkpoint; updates: readonly (ClaimedUpdate | null)[] },
  findings: Findings,
): Figures | null {
  if (envelope === null) {
    findings.skip('figures', record.partial?.reasons.figures ?? 'the source has no scores of this merge');
    return null;
  }
  findings.done('figures');
  const lacks = (message: string, values: Record<string, unknown> = {}): null => {
    findings.problem('VERIFY_SOURCE', message, values);
    return null;
  };
  let figures: Figures;
  try {
    const { author, message } = verifyMessage('figures', envelope);
    const isSame = author === coordinator && message.job === job && message.round === checkpoint.round;
    if (!isSame) return lacks('the scores are of another merge, or not signed by the coordinator');
    figures = message;
  } catch (error) {
    return lacks(`the scores are not valid: ${messageOf(error)}`);
  }
  // Figures of another term prove nothing, because a coordinator that was restored from a backup may merge a
  // round again, in a later term.
  const isSameTerm = figures.term === checkpoint.term;
  const off = (message: string, values: Record<string, unknown> = {}): null => {
    if (!isSameTerm) return lacks(message, values);
    findings.problem('VERIFY_FIGURES', message, values);
    return null;
  };
  if (figures.parent !== checkpoint.parent) return off('the scores are of another parent');
  for (const [i, { peer, round, update, weight }] of checkpoint.contributors.entries()) {
    const scored = figures.updates.find((one) => one.peer === peer && one.round === round);
    if (!scored) {
      off(`the scores lack the contributor ${peer}`, { peer });
      continue;
    }
    const sent = updates[i]?.update;
    const contradictions: [string, boolean][] = [
      ['update', scored.update === update],
      ['harmful', !scored.harmful],
      ['belief', weight === 0 || scored.belief > 0],
    ];
    const wrong = contradictions.filter(([, same]) => !same).map(([field]) => field);
    if (wrong.length > 0)
      off(`the scores of ${peer} contradict the checkpoint in: ${wrong.join(', ')}`, { peer, fields: wrong });
    if (sent === undefined) continue;
    const isSent =
      scored.parent === sent.parent &&
      scored.start === sent.start &&
      scored.end === sent.end &&
      scored.preset === sent.preset;
    // A different update proves nothing, because the author may have signed several updates with this
    // payload, and the source chooses one.
    if (!isSent) lacks(`the source has a signed update of ${peer} that differs from the scored update`);
  }
  return figures;
}
