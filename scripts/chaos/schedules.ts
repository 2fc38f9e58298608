import { failpoints } from '../../coordinator/failpoints.ts';
import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { Fault } from './fault.ts';
import * as faults from './faults.ts';
import { walkCoordinator, walkNodes } from './walk.ts';

/** Number of times that `coordinatorKills` kills the coordinator in a round. */
const KILLS = 3;
/** Fraction of the nodes that are killed in a round. */
const KILLED = 0.3;

/** Returns the faults of one round. All random choices follow from the seed. */
type Schedule = (round: number, random: SeededRandom) => Fault[];

/** Kills the coordinator at each failpoint in turn. One kill at a random moment follows the last failpoint. */
function coordinatorKills(round: number): Fault[] {
  return Array.from({ length: KILLS }, (_, i) => {
    const points = [...failpoints, 'any'] as const;
    return faults.killCoordinator(points[(KILLS * (round - 1) + i) % points.length]!);
  });
}

const machineFaults: Fault[] = [
  faults.fillDisk('node', 12_000),
  faults.stopProcesses('nodes', 15_000),
  faults.jumpClock('node', 300_000, 15_000),
  faults.fillDisk('coordinator', 12_000),
  faults.stopProcesses('coordinator', 15_000),
  faults.jumpClock('coordinator', 20_000, 10_000),
  faults.jumpClock('node', -300_000, 15_000),
  faults.jumpClock('coordinator', 600_000, 10_000),
  faults.jumpClock('coordinator', -600_000, 10_000),
  faults.jumpClock('node', 3_700_000, 15_000),
  faults.jumpClock('coordinator', 3_700_000, 15_000),
];

const linkFaults: Fault[] = [
  faults.partition('half', 10_000),
  faults.slowLink(16 * 1024, 20_000),
  faults.partition('cut', 10_000),
  faults.slowLink(64 * 1024, 15_000),
  faults.partition('cut', 40_000),
];

const shapedLinks: Fault[] = [
  faults.shapeLink('1mbit', 20_000),
  faults.shapeLink('256kbit', 20_000),
  faults.shapeLink('64kbit', 20_000),
];

const inTurn = (list: readonly Fault[], round: number): Fault[] => [list[(round - 1) % list.length]!];

/** The schedules by name. */
export const schedules: Readonly<Record<string, Schedule>> = {
  calm: () => [],
  nodes: () => [faults.killNodes(KILLED)],
  coordinator: (round) => coordinatorKills(round),
  both: (round) => [faults.killNodes(KILLED), ...coordinatorKills(round)],
  links: (round) => inTurn(linkFaults, round),
  /** Needs a network namespace: unshare -n sh -c 'ip link set lo up && npm run chaos -- --schedule shaped'. */
  shaped: (round) => inTurn(shapedLinks, round),
  machines: (round) => inTurn(machineFaults, round),
  'node-damage': (round) => (round % 3 === 0 ? [faults.restoreNode] : [faults.damageNode]),
  'coordinator-damage': () => [faults.damageCoordinator],
  /** Damages each kind of file of a coordinator in each way, and then ends by itself. */
  'walk-coordinator': () => [walkCoordinator],
  /** Damages each kind of file of a node in each way, and then ends by itself. */
  'walk-nodes': () => [walkNodes],
  'old-backup': (round) => (round % 3 === 1 ? [faults.restoreCoordinator] : []),
  /** The node that connects first after a restore has missed a checkpoint, and the link of half of the nodes fails in between. */
  'old-backup-gap': (round) => (round % 3 === 1 ? [faults.restoreWithGap] : [faults.partition('half', 3000)]),
  /** A short schedule for `npm test`. */
  short: (round, random) =>
    [
      [faults.killNodes(KILLED), faults.killCoordinator(random.pick(failpoints))],
      [faults.partition('cut', 3000), faults.stopProcesses('nodes', 2000)],
      [faults.damageNode],
    ][(round - 1) % 3]!,
  mixed: (round, random) => [
    faults.killNodes(KILLED),
    random.pick([...linkFaults, ...machineFaults, faults.damageNode, ...coordinatorKills(round)]),
  ],
};
