import type { Command } from 'commander';
import type { GivenLimits, NodePolicy } from '../../index.ts';
import { NODE_LIMITS } from '../../monitor/node-limits.ts';
import { number } from './common.ts';
import { limitOption } from './limits.ts';

const GIB = 1024 ** 3;
/** Smallest limit in GiB. It is equal to the smallest limit of `lora-swarm node config`. */
const LEAST_GIB = 0.001;

/** Values of the options that {@link addLimitOptions} adds. */
export interface LimitOptions {
  maxBase?: number;
  maxDisk?: number;
  maxMemory?: number;
  polite?: boolean;
  hours?: string;
  maxUpload?: number;
  maxDownload?: number;
  maxTraffic?: number;
}

/** Adds the options with which the owner of a machine limits a node. */
export function addLimitOptions(command: Command): Command {
  return command
    .option(
      '--max-base <GiB>',
      'maximum size of a base model to download, in GiB (default: 32)',
      number(LEAST_GIB),
    )
    .option('--max-disk <GiB>', `${NODE_LIMITS['max-disk']!.help} (default: 100)`, number(LEAST_GIB))
    .option(
      '--max-memory <GiB>',
      `${NODE_LIMITS['max-memory']!.help} (default: ${NODE_LIMITS['max-memory']!.byDefault})`,
      number(LEAST_GIB),
    )
    .option(
      '--polite',
      `${NODE_LIMITS.polite!.help.replace(/: on or off$/, '')} (default: the limit of "lora-swarm node config")`,
    )
    .option('--no-polite', 'never pause for other programs or on battery')
    .option('--hours <hours>', ...limitFlag('hours'))
    .option('--max-upload <MB/s>', ...limitFlag('max-upload'))
    .option('--max-download <MB/s>', ...limitFlag('max-download'))
    .option('--max-traffic <GB>', ...limitFlag('max-traffic'));
}

/** Returns the help text and the parser of an option that sets a limit. */
function limitFlag(key: string) {
  const help = `${NODE_LIMITS[key]!.help} (default: the limit of "lora-swarm node config")`;
  return [help, limitOption(key)] as const;
}

/** Returns the hours and the limits on traffic that the options set. */
export function givenLimits({ hours, maxUpload, maxDownload, maxTraffic }: LimitOptions): GivenLimits {
  return {
    ...(hours !== undefined && { hours }),
    ...(maxUpload !== undefined && { maxUpload }),
    ...(maxDownload !== undefined && { maxDownload }),
    ...(maxTraffic !== undefined && { maxTraffic }),
  };
}

/** Returns the maximum sizes of base, disk space and memory that the options set, in bytes. */
export function givenPolicy({ maxBase, maxDisk, maxMemory }: LimitOptions): Partial<NodePolicy> {
  return {
    ...(maxBase !== undefined && { maxBaseBytes: maxBase * GIB }),
    ...(maxDisk !== undefined && { maxDiskBytes: maxDisk * GIB }),
    ...(maxMemory !== undefined && { maxMemoryBytes: maxMemory * GIB }),
  };
}
