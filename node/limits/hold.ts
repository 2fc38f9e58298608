import { isSwarmError } from '../../common/errors.ts';
import type { Hold } from '../../protocol/api/node.ts';
import type { HoldReason } from '../../protocol/holds.ts';

/** The holds for errors of joining that happen at each attempt, until the owner of the machine changes something. */
const REASONS: Readonly<Record<string, HoldReason>> = {
  POLICY_BASE: 'base',
  POLICY_DISK: 'disk',
  POLICY_MEMORY: 'memory',
  STORE_FULL: 'disk-full',
  ENGINE_UNAVAILABLE: 'engine',
  BASE_BITS: 'engine',
  PRECISION: 'engine',
  CLOCK_OFF: 'clock',
  PROTOCOL_VERSION: 'version',
};

/** Returns the hold that follows from an error of joining; null if the next attempt may succeed. */
export function holdOf(error: unknown): Hold | null {
  if (!isSwarmError(error)) return null;
  const code = error.code === 'RPC_REFUSED' ? String(error.values.code) : error.code;
  const reason = Object.hasOwn(REASONS, code) ? REASONS[code]! : null;
  if (reason === null) return null;
  const { needed, allowed } = error.values;
  const hasAmounts = typeof needed === 'number' && typeof allowed === 'number';
  return { reason, detail: hasAmounts ? `needs ${gib(needed)}, may use ${gib(allowed)}` : '' };
}

function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toPrecision(3)} GiB`;
}
