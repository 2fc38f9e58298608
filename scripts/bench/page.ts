import Fastify, { type FastifyInstance } from 'fastify';
import { addPageRoutes } from '../../monitor/page.ts';
import { peerHealth } from '../../monitor/peer-health.ts';
import type { JobDetail } from '../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { PeerView } from '../../protocol/api/peers.ts';
import { openBrowser, type Page } from '../../test/interop/browser.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { BenchCheckpoints } from './page-checkpoints.ts';

export const name = 'page';
export const about = 'speed of the web page with 1,000 peers and 10,000 rounds (30 seconds, Linux x64 only)';

const PEERS = 1_000;
const ROUNDS = 10_000;
/**
 * Time for which the frames of a view are counted, in milliseconds. During this time, the page asks for new facts every
 * 2 s.
 */
const WATCH_MS = 6_000;
/** Maximum time between two frames that users do not notice as a pause, in milliseconds. */
const PAUSE_MS = 100;
/** Maximum time for which an answer may block the only thread of a coordinator, in milliseconds. */
const BLOCKED_MS = 100;
/**
 * Time in milliseconds after which Chromium has removed the previous document of a tab from memory. Chromium begins to
 * remove the document after 1 s.
 */
const FORMER_DOCUMENT_MS = 2_000;

const VIEWS = [
  { view: '#/jobs/large', heading: 'Rounds', what: 'overview' },
  { view: '#/jobs/large/peers', heading: 'Peers', what: 'peers' },
  { view: '#/jobs/large/checkpoints', heading: 'Checkpoints', what: 'checkpoints' },
  { view: '#/jobs/large/events', heading: 'Events', what: 'events' },
  { view: '#/jobs/large/replay', heading: 'Replay', what: 'replay' },
] as const;

/** Measures how long the page shows no new frame, and how long its views take to appear. */
export async function run(
  report: (row: BenchRow) => void,
  { log, quick = false }: BenchOptions,
): Promise<void> {
  const browser = await openBrowser();
  if ('missing' in browser) throw new Error(browser.missing);
  const server = Fastify();
  const size = quick ? { peers: 50, rounds: 100 } : { peers: PEERS, rounds: ROUNDS };
  const checkpoints = await BenchCheckpoints.create(size.rounds);
  try {
    addPageRoutes(server);
    addFacts(server, size);
    checkpoints.addRoutes(server);
    const url = await server.listen({ host: '127.0.0.1', port: 0 });
    const page = await browser.newPage({ width: 1280, height: 900, colorScheme: 'light' });
    await page.goto(`${url}/#token=t`);
    await page.waitForSelector('h1');
    // While the browser removes the tab's previous document from memory, it waits until all charts are painted. Without a
    // GPU, it shows no frame for 0.2 s. The measurement therefore waits for the removal, and then changes views without
    // loading another document.
    await page.evaluate(`new Promise((resolve) => setTimeout(resolve, ${FORMER_DOCUMENT_MS}))`);
    for (const { view, heading, what } of VIEWS) {
      log(`page: ${what}`);
      const { shown, longest, frames } = await watch(page, view, heading);
      const reference = `${size.peers} peers, ${size.rounds} rounds; ${frames} frames in ${WATCH_MS / 1000} s`;
      const row = (value: string, ms: number, target: number): BenchRow => ({
        name: `${what}: ${value}`,
        value: Math.round(ms),
        unit: 'ms',
        target,
        met: ms <= target,
        reference,
      });
      report(row('until it is shown', shown, 3_000));
      report(row('longest time without a frame', longest, PAUSE_MS));
    }
    const blocked = (what: string): void => {
      const value = Math.round(checkpoints.longest);
      const met = value <= BLOCKED_MS;
      const reference = `${size.rounds} checkpoints of 8 nodes`;
      report({ name: `${what}: longest answer`, value, unit: 'ms', target: BLOCKED_MS, met, reference });
    };
    blocked('checkpoints');
    checkpoints.longest = 0;
    checkpoints.readAll();
    blocked('list of all checkpoints');
  } finally {
    await browser.close();
    await server.close();
    await checkpoints.close();
  }
}

/** Opens a view, and counts frames from this moment on, so that its first drawing counts too. */
async function watch(page: Page, view: string, heading: string) {
  const start = performance.now();
  await page.evaluate(`{
    const times = [];
    const end = performance.now() + ${WATCH_MS};
    window.frameTimes = new Promise((resolve) => {
      const frame = (now) => {
        times.push(now);
        if (now < end) requestAnimationFrame(frame);
        else resolve(times);
      };
      requestAnimationFrame(frame);
    });
    location.hash = '${view}';
  }`);
  await page.waitForSelector(`h2:has-text("${heading}")`);
  // Wait for the first events and peers too, because they arrive after the heading.
  await page.waitForSelector('td, canvas');
  const shown = performance.now() - start;
  const times = await page.evaluate<number[]>('window.frameTimes');
  const gaps = times.slice(1).map((time, i) => time - times[i]!);
  return { shown, longest: Math.max(...gaps), frames: gaps.length };
}

/** Answers the requests of the page with made-up facts. The steps of the peers change with each answer. */
function addFacts(server: FastifyInstance, size: { peers: number; rounds: number }): void {
  let answers = 0;
  const events = eventsOf(size);
  const job = jobOf(size);
  server.get('/v1/status', async () => ({
    role: 'coordinator',
    version: 'bench',
    peerId: 'peer',
    uptimeSeconds: 1,
    traffic: { sent: 0, received: 0 },
    jobs: [job],
  }));
  server.get('/v1/jobs/large', async () => job);
  server.get('/v1/peers', async () => {
    answers++;
    return { peers: Array.from({ length: size.peers }, (_, i) => peerOf(i, answers)), bans: [] };
  });
  server.get<{
    Querystring: { types?: string; last?: string; after?: string; limit?: string; follow?: string };
  }>('/v1/jobs/large/events', async ({ query }, reply) => {
    const types = query.types?.split(',');
    const matching = events
      .filter(({ type, sequence }) => (types?.includes(type) ?? true) && sequence > Number(query.after ?? 0))
      .slice(query.last === undefined ? 0 : -Number(query.last))
      .slice(0, query.limit === undefined ? undefined : Number(query.limit));
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
    for (const event of matching) reply.raw.write(`${JSON.stringify(event)}\n`);
    // The stream stays open, like the stream of a running job, unless the page asked for past events only.
    if (query.follow === undefined) reply.raw.end();
  });
}

function eventsOf({ rounds }: { rounds: number }): JobEvent[] {
  const found: JobEvent[] = [];
  const add = (body: object): void => {
    found.push({ sequence: found.length + 1, at: 1e12 + found.length * 1000, job: 'j', ...body } as JobEvent);
  };
  for (let round = 1; round <= rounds; round++) {
    add({ type: 'round-opened', round, peers: 8, preset: 'balanced', deadlineMs: 60_000 });
    for (let peer = 0; peer < 4; peer++) {
      add({ type: 'update', round, peer: `peer${peer}`, code: 'accepted', detail: '', bytes: 80_000 });
    }
    const heldOutLoss = 3 + 2 / Math.sqrt(round);
    const facts = {
      digest: 'd',
      trainLoss: heldOutLoss + 0.1,
      updates: 4,
      tokens: 4000,
      tokensPerSecond: 900,
    };
    add({ type: 'checkpoint', round, heldOutLoss, ...facts, updateBytes: 320_000, seconds: 4 });
  }
  return found;
}

function jobOf({ peers, rounds }: { peers: number; rounds: number }): JobDetail {
  const assigned = Array.from({ length: peers }, (_, i) => `peer${i}`);
  return {
    job: 'large',
    name: 'large',
    phase: 'training',
    round: rounds + 1,
    rounds: 2 * rounds,
    secondsLeft: 20,
    peers,
    baseLoss: 5,
    heldOutLoss: 3.02,
    checkpoint: { round: rounds, digest: 'd' },
    best: null,
    tokensPerSecond: 900,
    reason: '',
    health: { level: 'green', reason: 'training', next: '' },
    pendingOrders: [],
    tasks: null,
    invite: null,
    updates: { round: rounds + 1, assigned, received: assigned.slice(0, peers / 2) },
  } as unknown as JobDetail;
}

function peerOf(i: number, answers: number): PeerView {
  const facts = {
    state: 'training',
    standing: 'good',
    hold: null,
    stillSeconds: i % 7 === 0 ? 90 : 1,
    awaitedSeconds: null,
    lastSeenSeconds: 1,
    rttMs: 20 + (i % 80),
    refusal: null,
  } as const;
  return {
    ...facts,
    peer: `peer${i}`,
    name: `node-${i}`,
    job: 'large',
    jobName: 'large',
    connected: true,
    address: '/ip4/127.0.0.1/tcp/1',
    round: 1,
    step: (i + answers) % 100,
    steps: 100,
    tokensPerSecond: 100 + i,
    engine: 'onnx-cpu',
    health: peerHealth(facts),
    accepted: i,
    refused: 0,
    unmerged: 0,
    tokens: 4000 * i,
    strikes: 0,
    last: null,
    score: null,
    bytesSent: 1000 * i,
    bytesReceived: 0,
  } as unknown as PeerView;
}
