/** The HTTP server of the public page. It shares no route, port or token with the control API. */
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { commonError } from '../../common/common-errors.ts';
import { FairPermits } from '../../common/limits/fair-permits.ts';
import { RateLimiter } from '../../common/limits/rate-limiter.ts';
import { readStyles } from '../../monitor/page.ts';
import { networkOfIp } from '../../net/libp2p/remote-network.ts';
import { peerIdSchema } from '../../protocol/ids.ts';
import type { CoordinatorDeps } from '../context.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { failurePage, jobPage, listPage } from './pages.ts';
import { isShown, publicJob } from './public-job.ts';
import { receiptsFile } from './receipts-file.ts';
import { listenerOf, type PublicPageOptions } from './settings.ts';

/** Number of seconds for which an answer is kept and sent to all clients, before the server reads the job again. */
export const CACHE_SECONDS = 10;
/** Maximum number of requests from one network: an IPv4 address, or the first 64 bits of an IPv6 address. */
export const NETWORK_QUOTA = { calls: 120, perMs: 60_000 };
/**
 * Maximum number of requests from all networks together. It is the only limit on requests through a proxy on
 * this machine, because all these requests come from the address of the proxy.
 */
const TOTAL_QUOTA = { calls: 3000, perMs: 60_000 };
/** Maximum number of requests for receipts from one network. */
export const NETWORK_RECEIPTS_QUOTA = { calls: 10, perMs: 60_000 };
/**
 * Maximum number of requests for receipts from all networks. Signing a full file takes about 50 ms, so all files take 15 s
 * of a minute at most.
 */
const RECEIPTS_QUOTA = { calls: 300, perMs: 60_000 };
/** Maximum number of open connections. When all are open, they are shared fairly between networks. */
export const CONNECTIONS = 512;
/** Maximum number of open connections from one network (see NETWORK_QUOTA). A browser opens 6. */
export const NETWORK_CONNECTIONS = 32;
/** Time in which a client must have sent its request, in milliseconds. */
const REQUEST_MS = 10_000;

/** Policy of the page: it runs no script, sends no form and loads nothing except its style sheet. */
const CONTENT_POLICY =
  "default-src 'none'; style-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const HTML = 'text/html; charset=utf-8';

export interface PublicServerDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'clock'> {
  readonly coordinator: Coordinator;
  readonly log: Pick<CoordinatorDeps['log'], 'error'>;
}

/** Starts the public page, and returns its URL. @throws SwarmError LISTEN_FAILED */
export async function startPublicServer(
  options: PublicPageOptions,
  deps: PublicServerDeps,
): Promise<{ url: string; server: FastifyInstance }> {
  const server = publicServer(options, deps);
  const { host, port } = listenerOf(options.listen)!;
  try {
    return { url: await server.listen({ host, port }), server };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/^listen /, '') : String(cause);
    const { listen } = options;
    throw commonError('LISTEN_FAILED', `could not listen on ${listen}: ${reason}`, { listen }, { cause });
  }
}

/** Makes the server of the public page. The server does not listen yet. */
export function publicServer(options: PublicPageOptions, deps: PublicServerDeps): FastifyInstance {
  const server = Fastify({
    bodyLimit: 1,
    forceCloseConnections: true,
    requestTimeout: REQUEST_MS,
    connectionTimeout: 2 * REQUEST_MS,
    frameworkErrors: (_error, _request, reply) => fail(reply, 400, 'This address is malformed'),
  });
  limitConnections(server);
  // No request to the page has a body, so no body is parsed.
  server.removeAllContentTypeParsers();
  server.setErrorHandler((error, request, reply) => {
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status < 500) return fail(reply, status, 'This request is not possible');
    deps.log.error({ url: request.url, error }, 'request-failed');
    return fail(reply, 500, 'The page failed');
  });
  server.setNotFoundHandler((_request, reply) => fail(reply, 404, 'There is no such page'));
  limitRate(server, deps);
  addPages(server, options, deps);
  return server;
}

function limitRate(server: FastifyInstance, { clock }: PublicServerDeps): void {
  const limiter = new RateLimiter({ clock });
  server.addHook('onRequest', async (request, reply) => {
    reply
      .header('content-security-policy', CONTENT_POLICY)
      .header('referrer-policy', 'no-referrer')
      .header('x-content-type-options', 'nosniff');
    const isFile = request.routeOptions.url?.endsWith('.json') ?? false;
    const { ip } = request;
    const network = networkOfIp(ip);
    const mayAsk =
      (isLoopback(ip) || limiter.take(`network ${network}`, NETWORK_QUOTA)) &&
      (isLoopback(ip) || !isFile || limiter.take(`receipts ${network}`, NETWORK_RECEIPTS_QUOTA)) &&
      limiter.take('all', TOTAL_QUOTA) &&
      (!isFile || limiter.take('receipts', RECEIPTS_QUOTA));
    if (!mayAsk)
      return fail(reply.header('retry-after', '60'), 429, 'Too many requests. Try again in a minute');
  });
}

/**
 * Closes each new connection from a network that already has NETWORK_CONNECTIONS open connections. When CONNECTIONS are
 * open, the network with the most connections loses its oldest one to a network that has fewer.
 */
export function limitConnections({ server }: Pick<FastifyInstance, 'server'>): void {
  const open = new Map<string, number>();
  const places = new FairPermits(
    { total: CONNECTIONS, reserved: 0, withdraws: 'oldest' },
    { knows: () => false, onRefusal: () => {} },
  );
  server.on('connection', (socket: Socket) => {
    // The address is undefined if the client has already closed the connection. Such a connection does not
    // count.
    const { remoteAddress: ip } = socket;
    if (ip === undefined) return;
    const network = networkOfIp(ip);
    const count = open.get(network) ?? 0;
    const hasTooMany = count >= NETWORK_CONNECTIONS && !isLoopback(ip);
    const release = hasTooMany ? null : places.take({ address: network, peer: '' }, () => socket.destroy());
    if (release === null) {
      socket.destroy();
      return;
    }
    open.set(network, count + 1);
    socket.once('close', () => {
      release();
      const left = open.get(network)! - 1;
      if (left === 0) open.delete(network);
      else open.set(network, left);
    });
  });
}

/**
 * Returns whether an address is a loopback address. The limits for one network do not apply to a loopback address,
 * because a proxy on this machine forwards the requests of all clients from there.
 */
function isLoopback(ip: string): boolean {
  return ip === '::1' || /^(::ffff:)?127\./.test(ip);
}

function addPages(server: FastifyInstance, options: PublicPageOptions, deps: PublicServerDeps): void {
  const { coordinator, clock } = deps;
  const cached = new Map<string, { until: number; text: Promise<string> }>();
  const fromCache = (key: string, make: () => Promise<string>): Promise<string> => {
    const held = cached.get(key);
    if (held && held.until > clock.monotonic()) return held.text;
    // Store the promise of the page at once, so that requests that arrive meanwhile wait for the same page. A page that
    // fails is removed.
    const text = (held?.text ?? Promise.resolve('')).catch(() => '').then(make);
    cached.set(key, { until: clock.monotonic() + CACHE_SECONDS * 1000, text });
    text.catch(() => cached.delete(key));
    return text;
  };
  const shown = (): JobRun[] => coordinator.jobs().filter((run) => isShown(run, options));
  const find = (name: string): JobRun | undefined =>
    shown().find(({ context }) => context.stored.name === name);
  const pageOf = (run: JobRun): Promise<string> =>
    fromCache(run.context.job, async () => jobPage(await publicJob(run, deps), options.contact ?? null));

  const style = readStyles(['page', 'tables', 'public']);
  server.get('/style.css', async (request, reply) => send(request, reply, 'text/css; charset=utf-8', style));
  server.get('/', async (request, reply) => {
    const jobs = shown().map(({ context, record }) => ({
      name: context.stored.name,
      roundsDone: record.checkpoint.ordinal,
      rounds: context.settings.newest.count,
    }));
    return send(request, reply, HTML, listPage(jobs));
  });
  server.get<{ Params: { name: string } }>('/jobs/:name', async (request, reply) => {
    const run = find(request.params.name);
    if (!run) return reply.callNotFound();
    return send(request, reply, HTML, await pageOf(run));
  });
  server.get<{ Params: { name: string; peer: string } }>(
    '/jobs/:name/receipts/:peer.json',
    async (request, reply) => {
      const { name, peer } = request.params;
      const run = find(name);
      const file = run && peerIdSchema.safeParse(peer).success ? receiptsFile(run, peer) : null;
      if (file === null) return reply.callNotFound();
      reply.header('content-disposition', `attachment; filename="receipts-${peer}.json"`);
      return send(request, reply, 'application/json; charset=utf-8', JSON.stringify(file));
    },
  );
}

function send(request: FastifyRequest, reply: FastifyReply, type: string, body: string): FastifyReply {
  const tag = `"${createHash('sha256').update(body).digest('base64url')}"`;
  reply.header('cache-control', `public, max-age=${CACHE_SECONDS}`).header('etag', tag);
  if (request.headers['if-none-match'] === tag) return reply.code(304).send();
  return reply.header('content-type', type).send(body);
}

function fail(reply: FastifyReply, status: number, text: string): FastifyReply {
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .header('content-type', HTML)
    .send(failurePage(text));
}
