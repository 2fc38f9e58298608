/** Reason why a node takes no work for now. */
export type HoldReason =
  | 'base'
  | 'disk'
  | 'memory'
  | 'disk-full'
  | 'engine'
  | 'clock'
  | 'version'
  | 'paused'
  | 'machine-busy'
  | 'battery'
  | 'hours'
  | 'traffic';

/** Reasons why a node takes no work for now, with their meanings. */
export const holdMeanings: Readonly<Record<HoldReason, string>> = {
  base: "the job's base is larger than the owner of the machine allows (--max-base)",
  disk: 'the job needs more disk space than the owner of the machine allows (--max-disk)',
  memory: 'the job needs more memory than the owner of the machine allows (--max-memory)',
  'disk-full': 'the disk of the machine is full',
  engine: 'the machine has no engine that can train the job',
  clock: 'the clock of the machine is wrong',
  version: 'the node and the coordinator run different versions of lora-swarm',
  paused: 'the owner of the machine has paused the node',
  'machine-busy': 'other programs use the processor of the machine',
  battery: 'the machine runs on battery',
  hours: 'the owner lends the machine only at other hours',
  traffic: 'the traffic of this month has reached the maximum that the owner of the machine has set',
};

export const holdReasons = Object.keys(holdMeanings) as [HoldReason, ...HoldReason[]];
