import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { CreatedInvite, InviteView } from '../../protocol/api/coordinator.ts';
import { nodeNameSchema } from '../../protocol/ids.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { inviteTo } from '../jobs/invite.ts';
import { inviteState } from '../peers/invite-grant.ts';
import { SHARED } from '../peers/invites.ts';
import { ADMITTED_PEERS } from '../peers/membership.ts';
import type { StoredInvite } from '../store/store.ts';
import { checked } from './checked.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Default lifetime of an invite. */
const DEFAULT_LIFETIME_MS = 7 * DAY_MS;
/** Maximum lifetime of an invite that expires: ten years. */
const MAX_LIFETIME_MS = 10 * 365 * DAY_MS;

const requestSchema = z
  .strictObject({
    name: nodeNameSchema.min(1).nullable().default(null),
    role: z.enum(['contributor', 'observer', 'operator']).default('contributor'),
    uses: z.int().min(1).max(ADMITTED_PEERS).default(1),
    /** Milliseconds until the invite expires, on the coordinator's clock; null if it never expires. */
    lifetimeMs: z.int().min(1).max(MAX_LIFETIME_MS).nullable().default(DEFAULT_LIFETIME_MS),
  })
  .prefault({});

interface InviteRouteDeps extends Pick<CoordinatorDeps, 'network' | 'clock'> {
  readonly coordinator: Coordinator;
}

/** Adds the routes that list, create and revoke the invites of a job. */
export function inviteRoutes(server: FastifyInstance, deps: InviteRouteDeps): void {
  const { coordinator, network, clock } = deps;
  type OfJob = { Params: { id: string } };
  server.get<OfJob>('/v1/jobs/:id/invites', async ({ params }) => {
    const run = coordinator.find(params.id);
    const personal = run.members.invites.all().map((invite) => viewOf(run, invite, clock.now()));
    return { invites: [sharedView(run), ...personal] };
  });
  server.post<OfJob>('/v1/jobs/:id/invites', async ({ params, body }): Promise<CreatedInvite> => {
    const run = coordinator.find(params.id);
    const { lifetimeMs, ...request } = checked(requestSchema, body ?? undefined, 'invite');
    const now = clock.now();
    const expiresAt = lifetimeMs === null ? null : now + lifetimeMs;
    const { invite, token } = run.members.invites.create({ ...request, expiresAt });
    const { job } = run.context;
    return { ...viewOf(run, invite, now), job, text: inviteTo({ job, token }, network) };
  });
  server.post<{ Params: { id: string; invite: string } }>(
    '/v1/jobs/:id/invites/:invite/revoke',
    async ({ params }) => {
      const run = coordinator.find(params.id);
      const found = run.members.invites.find(params.invite);
      run.members.removals.revokeInvite(found?.id ?? null);
      // Look the invite up again, because revoking has changed it.
      return found ? viewOf(run, run.members.invites.find(found.id)!, clock.now()) : sharedView(run);
    },
  );
}

function viewOf({ context, members }: JobRun, invite: StoredInvite, now: number): InviteView {
  const { id, name, role, uses, createdAt, expiresAt, revokedAt } = invite;
  const bound = [...members.invites.boundTo(id)];
  return {
    id,
    name,
    role,
    state: inviteState(invite, bound.length, now),
    uses,
    used: bound.length,
    createdAt,
    expiresAt,
    revokedAt,
    nodes: bound.map(([peer, boundAt]) => ({ peer, name: context.deps.store.peers.nameOf(peer), boundAt })),
  };
}

function sharedView({ context, members }: JobRun): InviteView {
  const { sharedRevokedAt: revokedAt } = members.invites;
  const present = members.list.all().filter(({ invite }) => invite === null);
  const former = context.deps.store.peers.formerShared(context.job);
  // A node that was removed by mistake may have joined again.
  const nodes = [...new Map([...former, ...present].map((node) => [node.peer, node])).values()];
  return {
    id: SHARED,
    name: null,
    role: 'contributor',
    state: revokedAt === null ? 'active' : 'revoked',
    uses: null,
    used: nodes.length,
    createdAt: context.stored.createdAt,
    expiresAt: null,
    revokedAt,
    nodes: nodes.map(({ peer, name, joinedAt }) => ({ peer, name, boundAt: joinedAt })),
  };
}
