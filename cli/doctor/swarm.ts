import { freeBytesOf } from '../../common/files/file-system.ts';
import { formatBytes } from '../../common/text.ts';
import { type AddressReach, isSwarmError } from '../../index.ts';
import { decodeInvite } from '../../protocol/access/invite.ts';
import type { CoordinatorClock } from '../../protocol/api/node.ts';
import type { Context } from '../context.ts';
import { type Daemon, runningDaemons } from '../daemon/running.ts';
import { cliError } from '../error-codes.ts';
import { printJson, printWrapped } from '../print.ts';
import { addressLines, reachText } from '../views/reach.ts';
import { STATUS_INDENT } from '../views/status.ts';
import { clockText, type DaemonFinding, daemonFindings, findingLines } from './daemon-findings.ts';

/** A daemon of this machine, and the findings about it. */
interface DaemonReport {
  readonly role: Daemon['role'];
  readonly home: string;
  readonly version: string;
  /** Addresses at which other peers can dial the daemon. For a coordinator, they are the addresses in its invites. */
  readonly addresses: readonly AddressReach[];
  /** Free bytes on the disk of the home folder; null if they are unknown. */
  readonly freeBytes: number | null;
  /** Clocks of a node's coordinators; empty for a coordinator. */
  readonly clocks: readonly CoordinatorClock[];
  readonly findings: readonly DaemonFinding[];
}

/**
 * Checks the daemons of this machine: `lora-swarm doctor --swarm`.
 * @throws SwarmError DAEMON_NOT_RUNNING; UNHEALTHY if a daemon does not work
 */
export async function doctorSwarm(
  context: Context,
  { home, json = false }: { home?: string; json?: boolean },
): Promise<void> {
  const reports: DaemonReport[] = [];
  for (const daemon of await runningDaemons(context, home)) reports.push(await examine(daemon, context));
  const errors = reports.flatMap(({ findings }) => findings.filter(({ level }) => level === 'error'));
  if (json && errors.length === 0) printJson(context, { schemaVersion: 1, daemons: reports });
  else if (!json) printWrapped(context, reports.flatMap(reportLines), STATUS_INDENT);
  if (errors.length === 0) return;
  // With --json this error is the only object that is printed, so it contains the reports.
  const { message, next } = errors[0]!;
  throw cliError('UNHEALTHY', message, { daemons: reports }, next === null ? {} : { next });
}

async function examine({ role, home, api, answer }: Daemon, { version }: Context): Promise<DaemonReport> {
  const { privateAddressesWarning, reachOf, sortByReach } = await import('../../net/addresses.ts');
  const [{ failing }, peers, free, clocks] = await Promise.all([
    api.ready(),
    role === 'coordinator' ? api.peers() : [],
    freeBytesOf(home),
    role === 'node' ? clocksOf(api) : [],
  ]);
  const invites = answer.role === 'coordinator' ? answer.jobs.map(({ invite }) => invite) : [];
  const invited = invites.flatMap((invite) => (invite === null ? [] : decodeInvite(invite).addresses));
  const addresses = sortByReach([...new Set(invited.length > 0 ? invited : answer.addresses)]);
  const unreachable = answer.role === 'coordinator' ? privateAddressesWarning(addresses) : null;
  const known = new Map(answer.reach.map((one) => [one.address, one]));
  // An invite may name an address that the daemon no longer has.
  const reach = addresses.map(
    (address) => known.get(address) ?? { address, announced: true, reach: reachOf(address), check: null },
  );
  reach.push(...answer.reach.filter(({ announced }) => !announced));
  return {
    role,
    home,
    version: answer.version,
    addresses: reach,
    // Infinity means that the file system does not report its free space. JSON has no infinity.
    freeBytes: free === Infinity ? null : free,
    clocks,
    findings: daemonFindings({
      ...{ answer, failing, peers, freeBytes: free, version, unreachable, clocks },
    }),
  };
}

/** Returns the clocks of a node's coordinators. */
export async function clocksOf(api: Daemon['api']): Promise<CoordinatorClock[]> {
  try {
    return (await api.askNode<{ clocks: CoordinatorClock[] }>('clocks')).clocks;
  } catch (error) {
    // A node of an older version has no such route, so its clocks are unknown. The findings name its version.
    if (isSwarmError(error)) return [];
    throw error;
  }
}

function reportLines({
  role,
  home,
  version,
  addresses,
  freeBytes,
  clocks,
  findings,
}: DaemonReport): string[] {
  return [
    `${role.padEnd(11)} ${home}, version ${version}`,
    ...addressLines(
      addresses.map((one) => [one.address, one.reach, reachText(one)].filter(Boolean).join('  ')),
    ),
    ...(freeBytes === null ? [] : [`disk        ${formatBytes(freeBytes)} free`]),
    ...clocks.map((one) => `clock       ${clockText(one)}`),
    ...findingLines(findings),
  ];
}
