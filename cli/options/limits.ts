import { InvalidArgumentError } from 'commander';
import type { KeptLimits } from '../../index.ts';
import { areHours } from '../../node/limits/hours.ts';
import type { LimitChanges } from '../../node/limits/limits.ts';
import { LEAST_RATE } from '../../node/limits/limits.ts';
import { usageError } from '../errors.ts';

const GIB = 1024 ** 3;
const MB = 1e6;
const GB = 1e9;

const gib = (bytes: unknown): string => `${Number((Number(bytes) / GIB).toPrecision(4))} GiB`;

/** A limit that `lora-swarm node config` shows and sets. The options of `lora-swarm node` have the same names. */
interface LimitKey {
  readonly field: keyof KeptLimits;
  readonly help: string;
  /** Returns the stored value; undefined if the text is not valid. */
  parse(text: string): number | string | boolean | undefined;
  format(value: number | string | boolean): string;
  /** The default value, as text for people. */
  readonly byDefault: string;
  /** Whether a running node applies a change only after a restart. */
  readonly atStart?: boolean;
}

const count =
  (min: number, max: number, unit = 1) =>
  (text: string) => {
    const value = Number(text);
    return text.trim() !== '' && value >= min && value <= max ? value * unit : undefined;
  };

export const LIMIT_KEYS: Readonly<Record<string, LimitKey>> = {
  polite: {
    field: 'polite',
    help: 'pause while other programs use the processor, and on battery: on or off',
    parse: (text) => (text === 'on' ? true : text === 'off' ? false : undefined),
    format: (value) => (value ? 'on' : 'off'),
    byDefault: 'on, if the machine has a battery or a user at its screen',
  },
  hours: {
    field: 'hours',
    help: 'hours of the day at which the node works, such as 22:00-07:00 or 12:00-13:00,20:00-07:00',
    parse: (text) => (areHours(text) ? text : undefined),
    format: String,
    byDefault: 'all',
  },
  'max-upload': {
    field: 'maxUpload',
    help: 'maximum upload, in MB per second',
    parse: count(LEAST_RATE / MB, 1e6, MB),
    format: (value) => `${Number(value) / MB} MB/s`,
    byDefault: 'no limit; 1 MB/s if the node is polite',
  },
  'max-download': {
    field: 'maxDownload',
    help: 'maximum download, in MB per second',
    parse: count(LEAST_RATE / MB, 1e6, MB),
    format: (value) => `${Number(value) / MB} MB/s`,
    byDefault: 'no limit; 5 MB/s if the node is polite',
  },
  'max-traffic': {
    field: 'maxTraffic',
    help: 'maximum traffic per month in both directions, in GB',
    parse: count(0, 1e9, GB),
    format: (value) => `${Number(value) / GB} GB`,
    byDefault: 'no limit',
  },
  threads: {
    field: 'threads',
    help: 'CPU threads of the trainer',
    parse: (text) => (/^\d+$/.test(text) ? count(1, 1024)(text) : undefined),
    format: String,
    byDefault: 'one less than the machine has',
    atStart: true,
  },
  'max-base': {
    field: 'maxBaseBytes',
    help: 'maximum size of a base model, in GiB',
    parse: count(0, 1e6, GIB),
    format: gib,
    byDefault: '32 GiB',
  },
  'max-disk': {
    field: 'maxDiskBytes',
    help: 'maximum disk space, in GiB',
    parse: count(0, 1e6, GIB),
    format: gib,
    byDefault: '100 GiB',
  },
  'max-memory': {
    field: 'maxMemoryBytes',
    help: 'maximum memory, in GiB',
    parse: count(0, 1e6, GIB),
    format: gib,
    byDefault: "four fifths of the machine's memory",
  },
};

/** Returns the parser of an option of `lora-swarm node` that sets a limit. */
export function limitOption(key: string) {
  const { parse, help } = LIMIT_KEYS[key]!;
  return (text: string) => {
    const value = parse(text);
    if (value === undefined) throw new InvalidArgumentError(`It is the ${help}.`);
    return value;
  };
}

/** Parses limits of the form KEY=VALUE. KEY=default restores a default. @throws SwarmError USAGE */
export function parseLimits(texts: readonly string[]): LimitChanges {
  const changes: Record<string, number | string | boolean | null> = {};
  for (const text of texts) {
    const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    const limit = Object.hasOwn(LIMIT_KEYS, key) ? LIMIT_KEYS[key]! : null;
    const keys = Object.keys(LIMIT_KEYS).join(', ');
    if (limit === null) {
      throw usageError(`"${text}" does not set a limit`, `write KEY=VALUE; the keys are ${keys}`);
    }
    if (limit.field in changes) throw usageError(`${key} is given twice`, 'give each key once');
    const parsed = value === 'default' ? null : limit.parse(value);
    if (parsed === undefined) {
      throw usageError(`"${value}" is not a value of ${key}`, `${key} is the ${limit.help}, or "default"`);
    }
    changes[limit.field] = parsed;
  }
  return changes;
}

/** Returns a line for each limit: its name, its value and its meaning. */
export function limitLines(limits: KeptLimits): string[] {
  const width = Math.max(...Object.keys(LIMIT_KEYS).map((key) => key.length));
  return Object.entries(LIMIT_KEYS).map(([key, { field, format, byDefault, help }]) => {
    const value = limits[field];
    const shown = value === undefined ? `default: ${byDefault}` : format(value);
    return `${key.padEnd(width)}  ${shown}  (${help})`;
  });
}

/** Returns the keys of changes that a running node applies only after a restart. */
export function keysAtStart(changes: LimitChanges): string[] {
  return Object.entries(LIMIT_KEYS).flatMap(([key, { field, atStart = false }]) =>
    atStart && field in changes ? [key] : [],
  );
}
