import { safeText, table } from '../../common/text.ts';
import type { CreatedInvite, InviteView } from '../../index.ts';
import { SWARM } from '../command-name.ts';
import { nodeName } from './events.ts';

/** Returns a table of the invites of a job. @param columns maximum length of a line */
export function inviteTable(invites: readonly InviteView[], columns?: number): string[] {
  return table(
    [
      ['invite', 'name', 'role', 'state', 'used', 'expires', 'nodes'],
      ...invites.map(({ id, name, role, state, uses, used, expiresAt, nodes }) => [
        id,
        name === null ? '' : safeText(name),
        role,
        state,
        uses === null ? String(used) : `${used} of ${uses}`,
        expiresAt === null ? 'never' : utc(expiresAt),
        nodes.map(({ peer, name }) => nodeName({ peer, name: name ?? '' })).join(', '),
      ]),
    ],
    { columns },
  );
}

/** Describes a new personal invite, and adds its text. */
export function createdInviteLines({ id, name, role, uses, expiresAt, text }: CreatedInvite): string[] {
  const machines = uses === 1 ? '1 machine' : `${uses} machines`;
  const until = expiresAt === null ? 'never expires' : `expires ${utc(expiresAt)}`;
  return [
    `created ${id}${name === null ? '' : ` (${safeText(name)})`}: ${role}, ${machines}, ${until}`,
    `invite ${text}`,
    'The invite is shown only now. Send it to one person over a private channel.',
    `next: on the machine that joins, run ${SWARM} node - and paste the invite`,
  ];
}

function utc(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
