import { html } from 'htm/preact';
import { formatDuration, formatLoss } from '../../../common/text.ts';
import { bannedPeers, isAccepted, type JobMoment, whyNotMerged } from '../../replay.ts';
import { formatDate } from '../format.ts';

/** Maximum number of nodes that a line names. */
const SHOWN_NODES = 24;

interface MomentProps {
  readonly moment: JobMoment;
  /** Names by peer id, for peers that were not present at the moment shown. */
  readonly names: ReadonlyMap<string, string>;
}

/** The state of a job at a past moment. `lora-swarm events replay` shows the same facts. */
export function MomentFacts({ moment, names }: MomentProps) {
  const { at, phase, reason, round, openedAt, assigned, updates, checkpoint, lowestLoss, present } = moment;
  const banned = bannedPeers(moment);
  const nameOf = (peer: string): string => present.get(peer) ?? names.get(peer) ?? `…${peer.slice(-8)}`;
  const accepted = updates.filter(isAccepted);
  const refused = updates.filter((update) => !isAccepted(update));
  return html`<dl class="facts">
    <dt>Time</dt>
    <dd>${at === null ? '–' : formatDate(at)}</dd>
    <dt>Phase</dt>
    <dd>${phase}${reason !== '' && `: ${reason}`}</dd>
    <dt>Round</dt>
    <dd>
      ${round}${openedAt !== null && at !== null && `, opened ${formatDuration((at - openedAt) / 1000)} before`}:${' '}
      ${accepted.length} of ${assigned} updates accepted
    </dd>
    ${
      accepted.length > 0 &&
      html`<dt>Delivered</dt>
        <dd>${listOf(accepted.map(({ peer }) => nameOf(peer)))}</dd>`
    }
    ${
      refused.length > 0 &&
      html`<dt>Not merged</dt>
        <dd>${listOf(refused.map((update) => `${update.name || nameOf(update.peer)} (${whyNotMerged(update)})`))}</dd>`
    }
    <dt>Checkpoint</dt>
    <dd>
      ${
        checkpoint === null
          ? 'none yet'
          : `of round ${checkpoint.round}, held-out loss ${formatLoss(checkpoint.heldOutLoss)} (lowest ${formatLoss(lowestLoss)})`
      }
    </dd>
    <dt>Nodes</dt>
    <dd>${present.size === 0 ? 'none' : `${present.size}: ${listOf([...present.values()])}`}</dd>
    ${
      banned.length > 0 &&
      html`<dt>Banned</dt>
        <dd>${listOf(banned.map(nameOf))}</dd>`
    }
  </dl>`;
}

function listOf(names: readonly string[]): string {
  const rest = names.length - SHOWN_NODES;
  return `${names.slice(0, SHOWN_NODES).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
