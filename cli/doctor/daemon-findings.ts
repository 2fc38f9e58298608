/** Finds the reasons why a coordinator or node on this machine does not work as it should. */

import { countOf, formatBytes, safeText } from '../../common/text.ts';
import type { AddressReach, CoordinatorStatus, NodeStatus, PeerView } from '../../index.ts';
import { inJob } from '../../monitor/alerts.ts';
import { outcomeText } from '../../monitor/node-work.ts';
import type { CoordinatorClock } from '../../protocol/api/node.ts';
import { shortPeer } from '../../protocol/ids.ts';
import { CLOCK_SKEW_MS } from '../../protocol/limits.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { SWARM, withCommandName } from '../command-name.ts';
import { nodeName } from '../views/events.ts';
import { isOver, phaseOf } from '../views/node.ts';
import { failureText } from '../views/reach.ts';

/** Free disk space in bytes below which a warning is given. A base and a few checkpoints need about as much. */
const LOW_DISK_BYTES = 2 ** 30;

/** `error`: the daemon does not work. `warning`: it works less well than it could. `note`: worth knowing. */
export type FindingLevel = 'error' | 'warning' | 'note';

export interface DaemonFinding {
  readonly level: FindingLevel;
  readonly message: string;
  /** Advice about what to do; null if there is none. */
  readonly next: string | null;
  /** Code of the receipt, if the finding is about an update that did not count. */
  readonly code?: ReceiptCode;
}

/** Facts about a daemon in which `lora-swarm doctor` looks for problems. */
export interface DaemonFacts {
  readonly answer: CoordinatorStatus | NodeStatus;
  /** Readiness checks that fail, with the reasons. */
  readonly failing: readonly { readonly check: string; readonly reason: string }[];
  /** Nodes of all jobs of a coordinator; empty if the daemon is a node. */
  readonly peers: readonly PeerView[];
  /** Free bytes on the disk of the home folder; Infinity if they are unknown. */
  readonly freeBytes: number;
  /** Version of this program. */
  readonly version: string;
  /** Warning about the addresses in the coordinator's invites; null if there is none, or if the daemon is a node. */
  readonly unreachable: { readonly message: string; readonly next: string | null } | null;
  /** Clocks of a node's coordinators; empty if the daemon is a coordinator. */
  readonly clocks: readonly CoordinatorClock[];
}

/** Returns the findings about a daemon, the most severe first. */
export function daemonFindings(facts: DaemonFacts): DaemonFinding[] {
  const { answer } = facts;
  const all = [
    ...commonFindings(facts),
    ...(answer.role === 'coordinator' ? coordinatorFindings(answer, facts) : nodeFindings(answer, facts)),
  ];
  const order: readonly FindingLevel[] = ['error', 'warning', 'note'];
  return all.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function finding(level: FindingLevel, message: string, next: string | null = null): DaemonFinding {
  return { level, message, next };
}

function* commonFindings({ answer, failing, freeBytes, version }: DaemonFacts): Generator<DaemonFinding> {
  const isHeldInAll = answer.role === 'node' && answer.jobs.every((one) => isHeld(one, answer));
  for (const { check, reason } of failing) {
    // `activityFindings` says for each job what the owner must change. These two checks would only add that the
    // node is in no job.
    if (isHeldInAll && (check === 'job' || check === 'coordinator')) continue;
    yield finding('error', `${check}: ${reason}`);
  }
  if (answer.version !== version) {
    yield finding(
      'warning',
      `the ${answer.role} runs version ${answer.version}, and this program is version ${version}`,
      `stop the ${answer.role} and start it again`,
    );
  }
  if (freeBytes < LOW_DISK_BYTES) {
    yield finding('warning', `only ${formatBytes(freeBytes)} are free on the disk`, 'free disk space');
  }
}

function* coordinatorFindings(
  { jobs, reach }: CoordinatorStatus,
  { peers, unreachable }: DaemonFacts,
): Generator<DaemonFinding> {
  if (unreachable !== null) yield finding('warning', unreachable.message, unreachable.next);
  for (const one of reach) yield* reachFindings(one);
  for (const { name, health } of jobs) {
    if (health.level === 'green' || health.level === 'grey') continue;
    yield finding(health.level === 'red' ? 'error' : 'warning', `job ${name}: ${health.reason}`);
  }
  for (const peer of peers) {
    const { health, jobName } = peer;
    if (health.level === 'green' || health.level === 'grey') continue;
    const message = `node ${nodeName(peer)}${inJob(jobName)}: ${health.reason}`;
    yield finding('warning', message, `${SWARM} peers --why ${peer.peer}`);
  }
}

/** Warns about an address in the invites at which a peer on the internet could not reach the coordinator. */
function* reachFindings({ address, announced, reach, check }: AddressReach): Generator<DaemonFinding> {
  if (!announced || reach !== 'internet' || check === null || check.from !== 'internet') return;
  const why = failureText(check.result);
  if (why === null) return;
  yield finding(
    'warning',
    `node ${shortPeer(check.peer)} could not connect to ${address} from the internet: ${why}`,
    'open the TCP port in the firewall of this machine and forward it on the router; or announce another address with --announce',
  );
}

function* nodeFindings(status: NodeStatus, { clocks }: DaemonFacts): Generator<DaemonFinding> {
  for (const one of clocks) {
    if (Math.abs(one.offsetMs) <= CLOCK_SKEW_MS) continue;
    yield finding(
      'warning',
      `the clocks differ too much: ${clockText(one)}; the limit is ${CLOCK_SKEW_MS / 1000} s`,
      'set the clock that is wrong, for example by switching on time synchronisation (NTP)',
    );
  }
  for (const one of status.jobs) yield* activityFindings(one, status);
}

/** Returns a text with the difference between the clocks of a coordinator and of this machine. */
export function clockText({ coordinator, offsetMs, roundTripMs }: CoordinatorClock): string {
  const seconds = (ms: number): string => `${(Math.abs(ms) / 1000).toFixed(3)} s`;
  return `the clock of coordinator ${shortPeer(coordinator)} is ${seconds(offsetMs)} ${offsetMs < 0 ? 'behind' : 'ahead of'} the clock of this machine (± ${seconds(roundTripMs / 2)})`;
}

/** Returns whether a node cannot join a job until its owner changes something, although the coordinator has answered. */
function isHeld(
  { state, hold, coordinator }: NodeStatus['jobs'][number],
  { pause }: Pick<NodeStatus, 'pause'>,
): boolean {
  return (
    state === 'joining' && hold !== null && hold.reason !== pause?.reason && coordinator.unreachable === null
  );
}

/** Answers the question why a node does not contribute to a job. */
function* activityFindings(one: NodeStatus['jobs'][number], status: NodeStatus): Generator<DaemonFinding> {
  const { updates, pause } = status;
  const { coordinator, job, state, reason, standing, shutOut, hold } = one;
  const name = job === null ? 'a job' : `job ${job.name}`;
  if (shutOut !== null) {
    yield finding('error', `${name}: the coordinator has shut this node out: ${shutOut.message}`);
    return;
  }
  if (isHeld(one, status)) {
    yield finding('error', `${name}: this node cannot take part until you change this: ${reason}`);
  } else if (!coordinator.connected) {
    yield finding(
      'error',
      `${name}: not connected to the coordinator at ${coordinator.addresses.join(', ')}`,
      'check that the coordinator is running, and that this machine can reach one of these addresses',
    );
  } else if (pause !== null && hold?.reason === pause.reason) {
    yield finding('note', `${name}: this node is paused: ${withCommandName(pause.text)}`);
  } else if (state === 'joining' && reason !== '') {
    yield finding('error', `${name}: this node cannot join yet: ${reason}`);
  }
  if (standing !== null && standing.kind !== 'good') {
    const effect = standing.kind === 'suspended' ? 'gets no work' : 'is on probation, and gets little work';
    yield finding(
      standing.kind === 'suspended' ? 'error' : 'warning',
      `${name}: this node ${effect} up to round ${standing.untilRound}, because of ${countOf(standing.strikes, 'strike')}`,
      `ask the operator for the output of "${SWARM} peers --why"`,
    );
  }
  if (job === null) return;
  if (job.role !== 'contributor') {
    yield finding('note', `${name}: this node is an ${job.role}, which gets no work`);
  }
  const because = job.reason === '' ? '' : `: ${job.reason}`;
  if (job.phase !== null && job.phase !== 'training') {
    yield finding('note', `${name} is ${phaseOf(job)}${because}`);
  }
  const newest = updates.find((update) => update.job === job.job && update.code !== null);
  if (newest !== undefined && !counts(newest.code!)) {
    const { why } = outcomeText(newest, { isJobOver: isOver(job) });
    const message = `${name}: the update of round ${newest.round} did not count: ${why}`;
    yield { ...finding('warning', message), code: newest.code! };
  }
}

/** Formats the findings about a daemon. Texts of peers are made safe for a terminal. */
export function findingLines(findings: readonly DaemonFinding[]): string[] {
  if (findings.length === 0) return ['ok          no problems found'];
  return findings.flatMap(({ level, message, next }) => [
    `${level.padEnd(11)} ${safeText(message, { maxCharacters: 1000 })}`,
    ...(next === null ? [] : [`${' '.repeat(12)}${safeText(next, { maxCharacters: 300 })}`]),
  ]);
}
