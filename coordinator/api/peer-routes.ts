import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { peerIdSchema } from '../../protocol/ids.ts';
import { DETAIL_CHARACTERS } from '../../protocol/limits.ts';
import { checked } from './checked.ts';
import { PeerViews, type PeerViewsDeps } from './peer-views.ts';

/**
 * Maximum length of the reason for a ban, in characters. The message that refuses a banned node has 100 characters
 * more, because it also says when the ban ends.
 */
const REASON_CHARACTERS = DETAIL_CHARACTERS - 100;
/** Maximum duration of a temporary ban, in milliseconds: ten years. */
const MAX_BAN_MS = 10 * 365 * 24 * 3_600_000;

/** The job that a command is about: its name, its digest or a unique prefix of its digest. null for all jobs. */
const job = z.string().min(1).nullable().default(null);
const banSchema = z
  .strictObject({
    job,
    reason: z.string().max(REASON_CHARACTERS).default(''),
    /** Milliseconds until the ban ends, on the coordinator's clock; null if it never ends. */
    forMs: z.int().min(1).max(MAX_BAN_MS).nullable().default(null),
  })
  .prefault({});
const pardonSchema = z.strictObject({ job }).prefault({});

/** Adds the routes that list peers, explain the standing of a peer, and ban or pardon a peer. */
export function peerRoutes(server: FastifyInstance, deps: PeerViewsDeps): void {
  const { coordinator, clock } = deps;
  const views = new PeerViews(deps);
  type ByPeer = { Params: { peer: string } };
  const peerOf = (text: string): string => checked(peerIdSchema, text, 'peer');
  server.get('/v1/peers', async () => {
    await views.countTokens();
    return { peers: views.peers(), bans: views.bans(), former: views.former() };
  });
  server.get<ByPeer>('/v1/peers/:peer', async ({ params }) => views.receipts(peerOf(params.peer)));
  server.post<ByPeer>('/v1/peers/:peer/ban', async ({ params, body }) => {
    const peer = peerOf(params.peer);
    const { forMs, ...request } = checked(banSchema, body ?? undefined, 'ban');
    coordinator.ban(peer, { ...request, until: forMs === null ? null : clock.now() + forMs });
    return views.receipts(peer);
  });
  server.post<ByPeer>('/v1/peers/:peer/pardon', async ({ params, body }) => {
    const peer = peerOf(params.peer);
    coordinator.pardon(peer, checked(pardonSchema, body ?? undefined, 'pardon'));
    return views.receipts(peer);
  });
}
