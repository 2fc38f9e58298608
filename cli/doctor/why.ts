import { resolveHomes } from '../../common/files/user-folders.ts';
import {
  type ApiClient,
  type CoordinatorRecord,
  type CoordinatorStatus,
  isSwarmError,
  type JobEvent,
  type JobSummary,
  type NodeStatus,
  type SwarmError,
} from '../../index.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { SWARM } from '../command-name.ts';
import { choosePeer } from '../commands/peers.ts';
import type { Context } from '../context.ts';
import { type Daemon, runningDaemons } from '../daemon/running.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import type { LogEntry } from '../logs/log-entry.ts';
import { storedEntries, withLogs } from '../logs/read-logs.ts';
import { printJson, printLines, printWrapped, timeOfDay } from '../print.ts';
import { clocksOf } from './swarm.ts';
import {
  chooseSubject,
  hasUpdate,
  type Sources,
  type Subject,
  type TimelineEntry,
  timeline,
} from './timeline.ts';

/** Number of the newest events of a job that are searched. A round of a large job has about a thousand events. */
const EVENTS = 20_000;
/** Spaces before the continuation of an entry: after its time and its source. */
const INDENT = 27;

interface WhyOptions {
  home?: string;
  /** Name or id of a node; true for the node of this machine. */
  why: string | true;
  round?: number;
  json?: boolean;
}

/**
 * Shows what a node and its coordinator recorded about one update of the node, in one timeline. With `round`, it also
 * shows a round in which the node made no update.
 * @throws SwarmError DAEMON_NOT_RUNNING, PEER_NOT_FOUND, USAGE, UPDATE_NOT_FOUND
 */
export async function doctorWhy(context: Context, { home, why, round, json }: WhyOptions): Promise<void> {
  const daemons = await runningDaemons(context, home);
  const coordinator = daemons.find(({ role }) => role === 'coordinator') ?? null;
  const local = daemons.find(({ role }) => role === 'node') ?? null;
  const peer = await peerOf(why, { coordinator, local, home: homeOf(context, home) });
  const node = local !== null && peerIdOf(local) === peer ? local : null;
  const known = {
    updates: node === null ? [] : (node.answer as NodeStatus).updates,
    receipts: coordinator === null ? null : await coordinator.api.receipts(peer),
  };
  const names = namesOf(daemons);
  const running =
    round === undefined ? null : await roundOfRunningJob({ peer, round }, { coordinator, node }, names);
  const subject = running ?? chooseSubject(known, names, round);
  if (subject === null) throw notFound(peer, round, daemons);
  const isHere =
    (coordinator?.answer as CoordinatorStatus | undefined)?.jobs.some(({ job }) => job === subject.job) ??
    false;
  const sources: Sources = {
    ...{ peer, ...known },
    log: node === null ? null : await logOf(node.home),
    events: isHere ? await eventsOf(subject, coordinator!.api) : [],
    ...(isHere || node === null ? { answer: null, offsetMs: 0 } : await remoteRecord(subject, node)),
  };
  const entries = timeline(subject, sources);
  if (entries.length === 0) throw notFound(peer, round, daemons);
  const used = daemons.filter((one) => one === node || one === coordinator);
  const homes = used.map(({ role, home: path }) => ({ role, home: path }));
  const notes = notesOf(subject, sources, { isHere, homes });
  if (json) printJson(context, { schemaVersion: 1, peer, ...subject, homes, entries, notes });
  else {
    const { jobName, round: number } = subject;
    const what = hasUpdate(subject, sources) ? 'update' : 'no update';
    const title = `${what} of node ${shortPeer(peer)} in round ${number} of job ${jobName}`;
    const from = `records of ${homes.map((one) => `the ${one.role} in ${one.home}`).join(' and ')}`;
    printLines(context, [title, from]);
    printWrapped(context, entries.map(entryLine), INDENT);
    printLines(context, notes);
  }
}

function homeOf({ environment, cwd }: Context, home: string | undefined): string {
  return resolveHomes(home, environment, cwd).node;
}

function notFound(peer: string, round: number | undefined, daemons: readonly Daemon[]): SwarmError {
  const which = round === undefined ? 'no update' : `no update of round ${round}`;
  const homes = daemons.map(({ home }) => home);
  return cliError(
    'UPDATE_NOT_FOUND',
    `the records in ${homes.join(' and ')} have ${which} of node ${peer}`,
    { peer, round: round ?? null, homes },
    { next: '"lora-swarm doctor --swarm" shows why a node gets no work' },
  );
}

/**
 * Returns a round of the job that a node works for. The node may have made no update in the round. Returns null if the node
 * works for several jobs or for none, or if its job has not reached the round.
 */
async function roundOfRunningJob(
  { peer, round }: { peer: string; round: number },
  { coordinator, node }: { coordinator: Daemon | null; node: Daemon | null },
  names: ReadonlyMap<string, string>,
): Promise<Subject | null> {
  const reached = new Set<string>();
  for (const one of node === null ? [] : (node.answer as NodeStatus).jobs) {
    if (!one.done && one.job !== null && one.round >= round) reached.add(one.job.job);
  }
  if (coordinator !== null) {
    const members = (await coordinator.api.peers()).filter((one) => one.peer === peer);
    const isRunning = ({ phase, ...one }: JobSummary): boolean =>
      phase !== 'finished' && one.round >= round && members.some(({ job }) => job === one.job);
    for (const { job } of (coordinator.answer as CoordinatorStatus).jobs.filter(isRunning)) reached.add(job);
  }
  const [job, ...others] = reached;
  if (job === undefined || others.length > 0) return null;
  return { job, jobName: names.get(job) ?? job.slice(0, 12), round };
}

function entryLine({ at, source, text }: TimelineEntry): string {
  const time = at === null ? '' : `${timeOfDay(at)}.${String(Math.floor(at) % 1000).padStart(3, '0')}`;
  return `${time.padEnd(14)}${source.padEnd(INDENT - 14)}${text}`;
}

/** Says which part of the timeline is missing, and where it is. */
function notesOf(
  { round }: Subject,
  { log, answer, offsetMs }: Sources,
  { isHere, homes }: { isHere: boolean; homes: readonly { home: string }[] },
): string[] {
  return [
    ...(log === null
      ? [
          `The log of the node is not in ${homes.map(({ home }) => home).join(' or ')}. To see it, run "${SWARM} doctor --why --round ${round}" on the machine of the node, with --home if the node has a home of its own.`,
        ]
      : []),
    ...(!isHere && answer === null
      ? ['The coordinator did not answer, so the timeline has only the records of the node.']
      : []),
    ...(Math.abs(offsetMs) >= 1
      ? [
          `Times are those of this machine. The clock of the coordinator differs by ${Math.round(offsetMs)} ms.`,
        ]
      : []),
  ];
}

async function peerOf(
  why: string | true,
  { coordinator, local, home }: { coordinator: Daemon | null; local: Daemon | null; home: string },
): Promise<string> {
  if (why === true) {
    if (local !== null) return peerIdOf(local);
    throw usageError(
      `no node runs in ${home}, so --why needs the name of a node`,
      'add its name or peer id, or add --home with the home of a node that runs on this machine',
    );
  }
  const own = local === null ? [] : [{ peer: peerIdOf(local), name: (local.answer as NodeStatus).name }];
  if (coordinator === null) return choosePeer(own, why);
  const { api } = coordinator;
  const [peers, bans, former] = await Promise.all([api.peers(), api.bans(), api.formerPeers()]);
  return choosePeer([...own, ...peers, ...bans], why, former);
}

function peerIdOf({ answer }: Daemon): string {
  return answer.peerId;
}

/** Returns the names of the jobs of the daemons, by their digests. */
function namesOf(daemons: readonly Daemon[]): ReadonlyMap<string, string> {
  const names = daemons.flatMap(({ answer }): [string, string][] =>
    answer.role === 'coordinator'
      ? (answer as CoordinatorStatus).jobs.map(({ job, name }) => [job, name])
      : (answer as NodeStatus).jobs.flatMap(({ job }) => (job === null ? [] : [[job.job, job.name]])),
  );
  return new Map(names);
}

async function logOf(home: string): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  try {
    await withLogs({ coordinator: home, node: home }, (logs) =>
      storedEntries(logs, ({ entry }) => void entries.push(entry)),
    );
  } catch (error) {
    // A node that the library started has no log file. Its own record is shown without the log.
    if (!isSwarmError(error, 'LOG_NOT_FOUND')) throw error;
  }
  return entries;
}

async function eventsOf({ job }: Subject, api: ApiClient): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of api.events(job, { last: EVENTS, follow: false })) events.push(event);
  return events;
}

/** Asks a coordinator on another machine, through the node. */
async function remoteRecord(
  { job, round }: Subject,
  node: Daemon,
): Promise<Pick<Sources, 'answer' | 'offsetMs'>> {
  const contact = (node.answer as NodeStatus).jobs.find((one) => one.job?.job === job)?.coordinator.peer;
  const query = `record?job=${job}&round=${round}` as const;
  const asked = node.api.askNode<{ record: CoordinatorRecord | null }>(query).catch((error: unknown) => {
    // The request fails if the node runs an older version, or if its coordinator does not answer. The timeline then shows
    // only the records of this machine.
    if (!isSwarmError(error)) throw error;
    return { record: null };
  });
  const [{ record }, clocks] = await Promise.all([asked, clocksOf(node.api)]);
  const offsetMs = clocks.find(({ coordinator }) => coordinator === contact)?.offsetMs ?? 0;
  return { answer: record, offsetMs };
}
