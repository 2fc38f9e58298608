import { InvalidArgumentError, Option } from 'commander';
import type { z } from 'zod';
import { PRECISIONS } from '../../lora/engines/precision.ts';
import { BASE_BITS, type BaseBits } from '../../lora/models/base/base-bits.ts';
import {
  announcedAddressSchema,
  bootstrapAddressSchema,
  listenAddressSchema,
} from '../../net/address-options.ts';

/** Returns a commander parser of whole numbers in a range, ends included. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Use a whole number ${range(min, max)}.`);
    }
    return value;
  };
}

/**
 * Parses an option of commander that names a checkpoint: the number of its round, or "best" for the best
 * checkpoint.
 */
export function roundOrBest(text: string): number | 'best' {
  if (text === 'best') return text;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Use the number of a round, or "best".');
}

/**
 * Commander parser of an option's value. Refuses a text that begins with "--", because this text is the next
 * option, and the value was left out.
 */
export function notAFlag(text: string): string {
  if (text.startsWith('--')) throw new InvalidArgumentError('The value of the option is missing.');
  return text;
}

/** Returns a commander parser of numbers in a range, ends included. */
export function number(min: number, max: number = Number.MAX_VALUE) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw new InvalidArgumentError(`Use a number ${range(min, max)}.`);
    }
    return value;
  };
}

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Parses the length of a pause, such as 30m, 2h or 1d, into milliseconds; `never` gives Infinity. */
export function pauseLength(text: string): number {
  return span(text, 'Use a whole number of minutes, hours or days, such as 30m, 2h or 1d.');
}

/** Parses a time span such as 30m, 12h or 7d into milliseconds; `never` gives Infinity. */
export function lifetime(text: string): number {
  return span(text, 'Use a whole number of minutes, hours or days, such as 30m, 12h or 7d, or "never".');
}

/** @param advice text of the error if the span is not valid */
function span(text: string, advice: string): number {
  if (text === 'never') return Number.POSITIVE_INFINITY;
  const [, count, unit] = /^([1-9]\d{0,3})([mhd])$/.exec(text) ?? [];
  if (count === undefined) {
    throw new InvalidArgumentError(advice);
  }
  return Number(count) * UNITS_MS[unit as keyof typeof UNITS_MS];
}

function range(min: number, max: number): string {
  return max >= Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
}

/** Collects the values of an option that may be repeated. */
export function collect(value: string, earlier: string[] | undefined): string[] {
  return [...(earlier ?? []), value];
}

/**
 * Parses the origin of web pages, or `*`. The option may be repeated. Apps and browser extensions have origins with
 * schemes of their own, such as `tauri://localhost`. The origin `null` is refused, because pages of any site can send it.
 */
export function webOrigin(value: string, earlier: string[] | undefined): string[] {
  const url = URL.parse(value);
  const isWeb = url !== null && /^https?:$/.test(url.protocol);
  const isOrigin = isWeb ? url.origin === value : /^[a-z][a-z\d+.-]*:\/\/[^/?#\s]+$/.test(value);
  // Browsers send an origin without a path, so any other text would never match.
  if (value !== '*' && !isOrigin) {
    const example = isWeb ? url.origin : 'https://chat.example';
    throw new InvalidArgumentError(`Use an origin such as ${example}, without a path, or "*".`);
  }
  return collect(value, earlier);
}

/** Parses a TCP address to listen on. The option may be repeated. */
export const listenAddress = addresses(listenAddressSchema);

/** Parses a TCP address to announce, by IP address or host name. The option may be repeated. */
export const announcedAddress = addresses(announcedAddressSchema);

/** Parses the address of a peer to stay connected to. The option may be repeated. */
export const bootstrapAddress = addresses(bootstrapAddressSchema);

/** Returns a commander parser that collects addresses which the schema accepts. */
function addresses(schema: z.ZodType<string>) {
  return (value: string, earlier: string[] | undefined): string[] => {
    const { error } = schema.safeParse(value);
    if (error) throw new InvalidArgumentError(`The address ${error.issues[0]!.message}.`);
    return collect(value, earlier);
  };
}

export function isPeerAddress(text: string): boolean {
  return /^\/.+\/p2p\/[^/]+$/.test(text);
}

const BITS_LIST = new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(BASE_BITS.map(String));

/** Parses --base-bits. */
export function baseBits(text: string): BaseBits {
  const bits = BASE_BITS.find((choice) => String(choice) === text);
  if (bits === undefined) throw new InvalidArgumentError(`Use ${BITS_LIST}.`);
  return bits;
}

/** Returns the option --precision. @param suffix text at the end of the help */
export const precisionOption = (suffix = ''): Option =>
  new Option(
    '--precision <name>',
    `precision of matrix products with the base's weights: float32, or float16 on a GPU that supports it${suffix}`,
  ).choices(PRECISIONS);

/** Help of --threads for commands that may use the whole machine. */
export const ENGINE_THREADS = 'CPU threads that the engine uses (default: all threads of the machine)';

export const CHECKPOINTING_HELP =
  'use gradient checkpointing, which computes the forward pass twice: training needs a fraction of the memory, and up to a third more time (default: on with --base-bits 4, or if training does not fit into memory otherwise)';

export const BASE_BITS_HELP =
  'bits per weight of the frozen base: 32, 8 (less memory, and faster on a processor with VNNI) or 4 (least memory); trained weights always have 32 bits';

export const jsonOption = (): Option => new Option('--json', 'print JSON, for programs');

/** Returns the option --home. `resolveHomes` reads SWARM_HOME. */
export const homeOption = (): Option =>
  new Option(
    '--home <dir>',
    'home folder of the coordinator or node, with its key, database and log (environment variable: SWARM_HOME; default: ~/.local/share/lora-swarm/coordinator or ~/.local/share/lora-swarm/node)',
  );

export const logLevelOption = (): Option =>
  new Option(
    '--log-level <levels>',
    'lowest level to log: debug, info, warn or error; the modules net and trainer can have their own levels, as in "warn,net=debug" (environment variable: SWARM_LOG_LEVEL; default: info in the log file, warn on stderr)',
  );

/** Returns the option --start-anew. @param state state of the home in which a daemon starts only with this option */
export const startAnewOption = (state: string): Option =>
  new Option(
    '--start-anew',
    `start even if ${state}; files that do not belong to the database are moved to the folder set-aside-TIME in the home`,
  );
