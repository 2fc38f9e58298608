import type { SeededRandom } from '../../test/utils/virtual/seeded-random.ts';
import type { Damage } from './damage.ts';
import type { ChaosSwarm } from './swarm.ts';

/** Results of a walk, by kind of file and kind of damage. */
export type WalkResults = Map<string, Map<Damage, string>>;

/** A fault that a schedule injects. Returns a description. */
export type Fault = (context: FaultContext) => Promise<string>;

export interface FaultContext {
  readonly swarm: ChaosSwarm;
  readonly random: SeededRandom;
  /** Nodes whose homes were damaged, restored or deleted. */
  readonly changedHomes: Set<string>;
  readonly walked: WalkResults;
  /** A walk takes only cells whose name, such as "flip node.sqlite", contains one of these texts. */
  readonly only: readonly string[];
  /** Records that the swarm handled a fault wrongly. @param text what is wrong */
  problem(text: string): void;
}
