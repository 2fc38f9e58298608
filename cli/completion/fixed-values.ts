/** Values that are the same on every machine, for arguments and options that do not refuse other values by themselves. */
import { CHANGEABLE_KEYS } from '../../coordinator/job-changes.ts';
import { BUILT_IN_TEMPLATES } from '../../lora/data/render/built-in.ts';
import { ENGINE_NAMES } from '../../lora/engines/names.ts';
import { PRECISIONS } from '../../lora/engines/precision.ts';
import { BASE_BITS } from '../../lora/models/base/base-bits.ts';
import { logLevels } from '../../monitor/logs/log-levels.ts';
import { NODE_LIMITS } from '../../monitor/node-limits.ts';

/** A value, and a description that shells show beside it. */
type Value = readonly [value: string, description: string];

const names = (values: readonly (string | number)[]): Value[] => values.map((value) => [String(value), '']);

/** `KEY=` for each limit of `lora-swarm node config`, and `KEY=VALUE` for each value that a list can name. */
const limits = Object.entries(NODE_LIMITS).flatMap(([key, { kind, help }]): Value[] => [
  ...(kind === 'switch' ? ['on', 'off'] : ['']).map((value): Value => [`${key}=${value}`, help]),
  [`${key}=default`, 'restore the default'],
]);

/** Values by the names of arguments and options. */
export const FIXED_VALUES: Readonly<Record<string, readonly Value[]>> = {
  '--engine': names(['auto', ...ENGINE_NAMES]),
  '--base-bits': names(BASE_BITS),
  '--precision': names(PRECISIONS),
  '--template': names(Object.keys(BUILT_IN_TEMPLATES)),
  '--log-level': names(logLevels),
  '--until': names(['finished', 'round=']),
  '--expires': names(['12h', '7d', 'never']),
  '--for': names(['30m', '12h', '7d']),
  limit: limits,
  setting: names(CHANGEABLE_KEYS.map((key) => `${key}=`)),
};
