import { InvalidArgumentError, Option } from 'commander';
import { PRECISIONS } from '../lora/engines/precision.ts';
import { BASE_BITS, type BaseBits } from '../lora/models/base-bits.ts';

/** A parser of whole numbers in a range, for commander. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Use a whole number ${range(min, max)}.`);
    }
    return value;
  };
}

/** A parser of numbers in a range (inclusive), for commander. */
export function number(min: number, max: number = Number.MAX_VALUE) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw new InvalidArgumentError(`Use a number ${range(min, max)}.`);
    }
    return value;
  };
}

function range(min: number, max: number): string {
  return max >= Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
}

/** For options that may be given several times. */
export function collect(value: string, earlier: string[] | undefined): string[] {
  return [...(earlier ?? []), value];
}

/** Addresses to listen on: TCP is what the swarm speaks. May be given several times. */
export function listenAddress(value: string, earlier: string[] | undefined): string[] {
  if (!/^\/(ip4|ip6)\/[^/]+\/tcp\/\d+$/.test(value)) {
    throw new InvalidArgumentError(
      'Use a multiaddr such as /ip4/0.0.0.0/tcp/4040, or port 0 for any that is free.',
    );
  }
  return collect(value, earlier);
}

/** Addresses of peers to dial. May be given several times. */
export function peerAddress(value: string, earlier: string[] | undefined): string[] {
  if (!isPeerAddress(value)) {
    throw new InvalidArgumentError('Use a multiaddr that ends in /p2p/PEER, as daemons print theirs.');
  }
  return collect(value, earlier);
}

export function isPeerAddress(text: string): boolean {
  return /^\/.+\/p2p\/[^/]+$/.test(text);
}

const BITS_LIST = new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(BASE_BITS.map(String));

/** How many bits a weight of the base takes on this machine. */
export function baseBits(text: string): BaseBits {
  const bits = BASE_BITS.find((choice) => String(choice) === text);
  if (bits === undefined) throw new InvalidArgumentError(`Use ${BITS_LIST}.`);
  return bits;
}

/** @param after what the help says beside it */
export const precisionOption = (after = ''): Option =>
  new Option(
    '--precision <name>',
    `of products with the base: float32, or float16 on a GPU that has it${after}`,
  ).choices(PRECISIONS);

/** For the help of --threads where no other work on the machine is to be spared. */
export const ENGINE_THREADS = 'threads of the engine (default: all of the machine)';

export const CHECKPOINTING_HELP =
  'compute the forward pass twice: a fraction of the memory, for up to a third more time (default: with --base-bits 4, and where it does not fit without)';

export const BASE_BITS_HELP =
  'bits of a weight of the base: 32, 8 (less memory, and faster on a processor with VNNI) or 4 (least memory); what is trained stays at 32';

export const jsonOption = (): Option => new Option('--json', 'print JSON for programs');

/** Environment variables are read where homes are resolved; the help names them. */
export const homeOption = (): Option =>
  new Option(
    '--home <dir>',
    "the daemon's folder (or SWARM_HOME; default: one per role in ~/.local/share/lora-swarm)",
  );

export const logLevelOption = (): Option =>
  new Option(
    '--log-level <levels>',
    'debug, info, warn or error, also by module: "warn,net=debug" (or SWARM_LOG_LEVEL)',
  );
