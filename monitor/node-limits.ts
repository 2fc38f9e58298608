/**
 * The limits of a node that the owner of a machine can set, with the texts that the terminal and the page
 * show.
 */
import { formatBytes } from '../common/text.ts';

const GIB = 1024 ** 3;
const MB = 1e6;
const GB = 1e9;

/** A limit of a node. */
export interface NodeLimit {
  /** Name of the limit in the control API of the node. */
  readonly field: string;
  readonly help: string;
  /** The default value, as text for people. */
  readonly byDefault: string;
  /** Form of the value: `on` or `off`, hours of the day, or a number. */
  readonly kind: 'switch' | 'hours' | LimitNumber;
  /** Whether a running node applies a change only after a restart. @default false */
  readonly atStart?: boolean;
}

/** A limit that is a number. People give the number in `unit`, and the API gets this number times `factor`. */
export interface LimitNumber {
  readonly unit: string;
  readonly factor: number;
  readonly least: number;
  readonly most: number;
  /** Whether the number must be whole. @default false */
  readonly whole?: boolean;
}

const gib: LimitNumber = { unit: 'GiB', factor: GIB, least: 0.001, most: 1e6 };
const rate: LimitNumber = { unit: 'MB/s', factor: MB, least: 0.1, most: 1e6 };

/** The limits by their names in `lora-swarm node config`. */
export const NODE_LIMITS: Readonly<Record<string, NodeLimit>> = {
  polite: {
    field: 'polite',
    kind: 'switch',
    help: 'pause while other programs use the processor, and on battery: on or off',
    byDefault: 'on, if the machine has a battery or a user at its screen',
  },
  hours: {
    field: 'hours',
    kind: 'hours',
    help: 'hours of the day at which the node works, such as 22:00-07:00 or 12:00-13:00,20:00-07:00',
    byDefault: 'all',
  },
  'max-upload': {
    field: 'maxUpload',
    kind: rate,
    help: 'maximum upload, in MB per second',
    byDefault: 'no limit; 1 MB/s if the node is polite',
  },
  'max-download': {
    field: 'maxDownload',
    kind: rate,
    help: 'maximum download, in MB per second',
    byDefault: 'no limit; 5 MB/s if the node is polite',
  },
  'max-traffic': {
    field: 'maxTraffic',
    kind: { unit: 'GB', factor: GB, least: 0, most: 1e9 },
    help: 'maximum traffic per month in both directions, in GB',
    byDefault: 'no limit',
  },
  threads: {
    field: 'threads',
    kind: { unit: '', factor: 1, least: 1, most: 1024, whole: true },
    help: 'CPU threads of the trainer',
    byDefault: 'one less than the machine has',
    atStart: true,
  },
  'max-base': {
    field: 'maxBaseBytes',
    kind: gib,
    help: 'maximum size of a base model, in GiB',
    byDefault: '32 GiB',
  },
  'max-disk': {
    field: 'maxDiskBytes',
    kind: gib,
    help: 'maximum disk space for the base models, data and adapters of jobs, in GiB',
    byDefault: '100 GiB',
  },
  'max-memory': {
    field: 'maxMemoryBytes',
    kind: gib,
    help: 'maximum memory of the processes of the node and of the base, adapter and rows of its jobs together, in GiB; training on the processor uses smaller micro-batches if its activations do not fit too',
    byDefault: "four fifths of the machine's memory for the jobs alone",
  },
};

/** A value of a limit in the control API. */
export type LimitValue = number | string | boolean;

/**
 * Returns the value of a limit that a person wrote; undefined if it is not valid. Hours are not checked.
 */
export function readLimit({ kind }: NodeLimit, text: string): LimitValue | undefined {
  if (kind === 'hours') return text;
  if (kind === 'switch') return text === 'on' ? true : text === 'off' ? false : undefined;
  const { factor, least, most, whole = false } = kind;
  const value = Number(text);
  if (text.trim() === '' || !(value >= least && value <= most)) return undefined;
  return whole && !/^\d+$/.test(text) ? undefined : value * factor;
}

/** Returns the help of a limit, with the range of its numbers. */
export function limitHelp({ kind, help }: NodeLimit): string {
  if (typeof kind === 'string') return help;
  const { least, most, whole = false } = kind;
  return whole ? `${help}, a whole number from ${least} to ${most}` : `${help}, at least ${least}`;
}

/** Returns a sentence without a full stop that tells what a limit sets. @param key name of the limit */
export function limitMeaning(key: string, limit: NodeLimit): string {
  return `${key} sets the ${limitHelp(limit)}`;
}

/** Returns a limit as text; its default if the value is undefined. */
export function limitText({ kind, byDefault }: NodeLimit, value: LimitValue | undefined): string {
  if (value === undefined) return `default: ${byDefault}`;
  if (kind === 'hours') return String(value);
  if (kind === 'switch') return value ? 'on' : 'off';
  const { unit, factor } = kind;
  const number = Number((Number(value) / factor).toPrecision(unit === 'GiB' ? 4 : 15));
  return unit === '' ? String(number) : `${number} ${unit}`;
}

/**
 * Returns a text that says that the home of a node has more bytes than `max-disk`; null if it has fewer. The limit does
 * not count all files of the home.
 * @param used bytes of the home; null if they are not known yet
 * @param limit `max-disk` in bytes; undefined for its default
 */
export function diskNote(used: number | null, limit: number | undefined): string | null {
  if (used === null || limit === undefined || used <= limit) return null;
  return `the home uses ${formatBytes(used)} now, and the limit is ${formatBytes(limit)}; the limit counts only the base models, data and adapters of the jobs, not the database and the logs`;
}
