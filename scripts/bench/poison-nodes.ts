/** Trainers and networks for the nodes of a poisoned swarm: honest nodes and attackers. */

import { SwarmError } from '../../common/errors.ts';
import type { Clock } from '../../common/time/clock.ts';
import { sleep } from '../../common/time/deadline.ts';
import { IGNORED_LABEL, type Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from '../../node/trainer/trainer.ts';
import type { RpcRequest } from '../../protocol/requests/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { VirtualClock } from '../../test/utils/virtual/virtual-clock.ts';
import type { VirtualHost } from '../../test/utils/virtual/virtual-network.ts';
import { ATTACKS, type Delta } from './attackers.ts';
import { attacksIn, type PoisonRun } from './poison-run.ts';
import type { SharedTrainer, Training } from './poison-trainer.ts';

/** Number of rounds whose updates an attacker with the behaviour `burst` holds back. */
const HELD_BACK = 3;
const MS_PER_STEP = 400;
/** Time in which a fast attacker delivers its update, in milliseconds. */
const FAST_MS = 1;
/** Losses that attackers claim. They are typical of an honest node. */
const CLAIMED_LOSSES = { lossFirst: 5, lossLast: 4.9, lossMean: 4.95 };

export interface NodeTrainersDeps {
  readonly run: PoisonRun;
  readonly trainer: SharedTrainer;
  readonly clock: VirtualClock;
  /** Returns the number of the newest round. */
  readonly round: () => number;
  /** Returns the rows on which a node trains instead of its assigned rows. */
  readonly rowsFor: (rows: readonly Row[], reader: string) => readonly Row[];
}

/**
 * Makes the trainers of all nodes, which share one real trainer. The trainers of attackers know the changes that the
 * honest nodes computed, because some attacks use these changes.
 */
export class NodeTrainers {
  readonly #deps: NodeTrainersDeps;
  readonly #random: SeededRandom;
  /** For each round, the changes of the adapter that the honest nodes computed. */
  readonly #changes = new Map<number, Delta[]>();

  constructor(deps: NodeTrainersDeps) {
    this.#deps = deps;
    this.#random = new SeededRandom(deps.run.seed, 1);
  }

  /**
   * Returns the trainer of one node.
   * @param clock clock of the node's process
   * @param node `attack`: null for an honest node. `slowness`: time for a step, as a multiple of a fast node's time
   */
  trainerOf(
    peer: string,
    clock: Clock,
    { attack, slowness }: { attack: string | null; slowness: number },
  ): NodeTrainer {
    const { trainer, run, round: newest, rowsFor } = this.#deps;
    const { behaviour } = run;
    return {
      engine: 'bench',
      note: null,
      restarts: 0,
      prepare: async () => trainer.layout,
      train: async (task, { signal }) => {
        const round = newest();
        const rows = rowsFor(task.rows, peer);
        const ms = task.steps * MS_PER_STEP * slowness;
        if (attack === null || !attacksIn(round, behaviour)) {
          const trained = await this.train({ ...task, rows });
          if (attack === null) this.#noteChange(round, changeOf(task.adapter, trained.adapter));
          await sleep(clock, ms, signal);
          return trained;
        }
        // An honest node computes its change when it starts to train, before its virtual training time passes. An
        // attacker that waits for as long as the training takes therefore knows the changes of all honest nodes. A fast
        // attacker does not wait, so it uses the changes of the previous round.
        const isFast = behaviour === 'fast';
        await sleep(clock, isFast ? FAST_MS : ms, signal);
        const known = this.#changes.get(isFast ? round - 1 : round) ?? [];
        return this.#poison(attack, { ...task, rows }, { honest: known, seconds: ms / 1000 });
      },
      keepBases: async () => {},
      releaseMemory: async () => {},
      stop: async () => {},
    };
  }

  /** Trains with the real trainer. Meanwhile, the virtual clock stands still. */
  train({ adapter, optimizer, rows, steps, position }: Training): Promise<TrainedRound> {
    const { clock, trainer } = this.#deps;
    return clock.hold(trainer.train({ adapter, optimizer, rows, steps, ...(position && { position }) }));
  }

  /** Makes an attacker's result of a round. The result claims the steps, tokens and time of an honest node. */
  async #poison(
    attack: string,
    task: TrainTask,
    { honest, seconds }: { honest: readonly Delta[]; seconds: number },
  ): Promise<TrainedRound> {
    let { optimizer } = task;
    const train = async (rows: readonly Row[], steps = task.steps): Promise<Delta> => {
      const trained = await this.train({ ...task, rows, steps });
      optimizer = trained.optimizer;
      return changeOf(task.adapter, trained.adapter);
    };
    const known = honest.length > 0 ? honest : [await train(task.rows)];
    const { rows, steps } = task;
    const change = await ATTACKS[attack]!({ rows, steps, train, honest: known, random: this.#random });
    const tokens = rows.reduce(
      (sum, { labels }) => sum + labels.filter((label) => label !== IGNORED_LABEL).length,
      0,
    );
    return {
      adapter: changeOf(task.adapter, change),
      optimizer,
      result: { steps, tokens, seconds, ...CLAIMED_LOSSES },
    };
  }

  #noteChange(round: number, change: Delta): void {
    this.#changes.set(round, [...(this.#changes.get(round) ?? []), change]);
    this.#changes.delete(round - 2);
  }
}

/**
 * Returns the network of an attacker that delivers in bursts. The network drops the updates that the node publishes over
 * gossip. The node then sends each update with the request `submit`, and the network holds these requests back. When it
 * holds the updates of HELD_BACK rounds, it sends all of them at once.
 */
export function heldBack(host: VirtualHost): SwarmNetwork {
  const held = new Map<number, Uint8Array>();
  const changed = {
    publish: async (topic: string, bytes: Uint8Array): Promise<number> =>
      topic.endsWith('/updates') ? 1 : host.publish(topic, bytes),
    request: async (peer: string, method: string, body: object, options: { signal: AbortSignal }) => {
      if (method !== 'submit')
        return host.request(peer, method as 'head', body as RpcRequest<'head'>, options);
      const { update } = body as RpcRequest<'submit'>;
      held.set(verifyMessage('update', update).message.round, update);
      if (held.size < HELD_BACK) throw new SwarmError('RPC_TIMEOUT', 'held back', {});
      const all = [...held.values()];
      held.clear();
      const answers = all.map((one) => host.request(peer, 'submit', { update: one }, options));
      return (await Promise.all(answers)).at(-1)!;
    },
  };
  return new Proxy(host, {
    get(target, key) {
      if (key in changed) return changed[key as keyof typeof changed];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/**
 * Returns `before` minus `after`. With the adapters before and after training, the result is the change that a node
 * sends. With an adapter and such a change, the result is the adapter after the change.
 */
function changeOf(before: readonly Float32Array[], after: readonly Float32Array[]): Delta {
  return before.map((values, t) => values.map((value, i) => value - after[t]![i]!));
}
