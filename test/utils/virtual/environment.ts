import { silentLogger } from '../../../monitor/logs/log.ts';
import { SeededRandom } from './seeded-random.ts';
import { VirtualClock } from './virtual-clock.ts';
import { type NetworkWeather, VirtualNetwork } from './virtual-network.ts';

export interface EnvironmentOptions extends Partial<NetworkWeather> {
  /** Time at the start, in ms since the epoch. @default 14 November 2023 */
  readonly start?: number;
}

/** Returns a clock and a network for virtual processes, both with the same random numbers, and a logger that is silent. */
export function virtualEnvironment(
  seed = 1,
  { start = 1_700_000_000_000, delayMs = [1, 20], loss = 0, duplicates = 0 }: EnvironmentOptions = {},
) {
  const random = new SeededRandom(seed);
  const clock = new VirtualClock(start);
  const network = new VirtualNetwork({ delayMs, loss, duplicates }, { clock, random });
  return { clock, network, random, log: silentLogger };
}
