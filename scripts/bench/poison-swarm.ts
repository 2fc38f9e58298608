/** One run of the poison benchmark: the real coordinator and real nodes on a virtual clock, with real training. */
import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import { SwarmError } from '../../common/errors.ts';
import type { StepsMade, StepsToMake, ValidationJob, Validator } from '../../coordinator/context.ts';
import { meanLoss } from '../../coordinator/merge/comparison.ts';
import { decodeAdapter } from '../../lora/adapter/codec.ts';
import { initialMatrices } from '../../lora/adapter/initial.ts';
import { IGNORED_LABEL, type Row } from '../../lora/data/row.ts';
import { SeededRandom } from '../../lora/data/seeded-random.ts';
import type { RowLoss } from '../../lora/train/step.ts';
import type { LossGradient } from '../../lora/update/score.ts';
import { silentLogger } from '../../monitor/log.ts';
import type { SwarmNetwork } from '../../net/network.ts';
import type { NodeTrainer, TrainedRound, TrainTask } from '../../node/trainer.ts';
import type { RpcRequest } from '../../protocol/rpc.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import { COORDINATOR, VirtualCoordinator } from '../../test/sim/virtual-coordinator.ts';
import { signerOf } from '../../test/utils/signers.ts';
import { SeededRandom as VirtualRandom } from '../../test/utils/virtual/seeded-random.ts';
import { type ToyJob, toyJob } from '../../test/utils/virtual/toy-job.ts';
import { VirtualClock } from '../../test/utils/virtual/virtual-clock.ts';
import { type VirtualHost, VirtualNetwork } from '../../test/utils/virtual/virtual-network.ts';
import { VirtualNode } from '../../test/utils/virtual/virtual-node.ts';
import { ATTACKS, type Delta } from './attackers.ts';
import { Books, type SharedTrainer } from './poison-trainer.ts';

export const BEHAVIOURS = ['plain', 'fast', 'burst', 'late-start', 'on-off'] as const;
export const SPLITS = ['even', 'own-book', 'two-books'] as const;

export interface PoisonRun {
  /** Name of an attack, or names with ` + ` between them, one for each attacker in turn; `none` without attackers. */
  readonly attack: string;
  readonly attackers: number;
  /**
   * - `plain`: attackers deliver when the others do
   * - `fast`: they deliver at once, as if they were very fast
   * - `burst`: they hold back the updates of three rounds and deliver them together
   * - `late-start`: they are honest in the first GOOD_ROUNDS rounds
   * - `on-off`: they attack in every third round only
   */
  readonly behaviour: (typeof BEHAVIOURS)[number];
  /** Data of the nodes: rows drawn evenly from all data, or rows of each node's own part of the book or of two books. */
  readonly split: (typeof SPLITS)[number];
  readonly seed: number;
  /** Checkpoints until the job ends. */
  readonly rounds: number;
  /** Honest nodes. */
  readonly honest: number;
  /** Optimiser steps of the fastest node in a round. */
  readonly steps: number;
  /** Whether the slowest honest node needs three times as long for a step as the fastest. */
  readonly unequal: boolean;
}

export interface PoisonDeps {
  readonly trainer: SharedTrainer;
  readonly rows: readonly Row[];
  /** Held-out rows of the gate. */
  readonly gateRows: readonly Row[];
}

/** One closed round of a run. */
export interface PoisonedRound {
  readonly round: number;
  readonly outcome: string | null;
  /** Share of the attackers in the weight of the merge; null without a merge. */
  readonly share: number | null;
  /** Share of the attackers in the assigned steps. */
  readonly assigned: number;
  /** Number of poisoned updates among those that the round closed with. */
  readonly poisoned: number;
  readonly honestBelief: { readonly least: number; readonly mean: number } | null;
  readonly attackersBelief: number | null;
  readonly heldOutLoss: number | null;
}

export interface AttackerOutcome {
  readonly attack: string;
  /**
   * Number of merges from the first with a harmful update of the attacker until the last in which such an update has
   * weight; null if one has weight in the last merge.
   */
  readonly weightlessAfter: number | null;
  /** Belief in the attacker after each scored round; null if none of its updates was in the round. */
  readonly beliefs: readonly (number | null)[];
}

export interface PoisonOutcome {
  /** Phase in which the job ended; `paused` if it paused itself. */
  readonly phase: string;
  readonly rounds: readonly PoisonedRound[];
  /** Adapter of the newest checkpoint. */
  readonly adapter: Delta;
  readonly attackers: readonly AttackerOutcome[];
  /** Honest nodes that were not assigned work in some round after they had joined, or that were refused or banned. */
  readonly excluded: number;
  /** Updates of honest nodes that had no weight although the nodes were no newcomers. */
  readonly disbelieved: number;
  /** Receipts of honest nodes and of attackers, by code. */
  readonly receipts: Record<'honest' | 'attackers', Record<string, number>>;
  /** Number of strikes by kind, and of suspensions and bans. */
  readonly strikes: Record<'honest' | 'attackers', Record<string, number>>;
  readonly rollBacks: number;
  /** Scores of all updates; `attack` is null for those of honest nodes. */
  readonly scores: readonly {
    readonly round: number;
    readonly attack: string | null;
    readonly effect: number | null;
    readonly gain: number | null;
    readonly share: number | null;
  }[];
  /** Rows of scoring and audits divided by rows that the nodes trained on. */
  readonly extraWork: number;
}

const GOOD_ROUNDS = 5;
const HELD_BACK = 3;
const BATCH = 4;
const MS_PER_STEP = 400;
const FAST_MS = 1;
/** Losses that attackers claim; those of an honest node. */
const CLAIMED_LOSSES = { lossFirst: 5, lossLast: 4.9, lossMean: 4.95 };
const RECEIPTS = 4096;
const EVENTS = 100_000;
/** Cost of a row's loss, as a share of the cost of its gradient. */
const LOSS_COST = 1 / 3;
const VIRTUAL_DAY_MS = 24 * 3_600_000;
/** A node with fewer scored updates is a newcomer. */
const NEWCOMER_UPDATES = 3;

/** Runs one swarm until its job ends. Everything follows from the run's settings, up to rounding of the trainer. */
export async function runPoisoned(run: PoisonRun, deps: PoisonDeps): Promise<PoisonOutcome> {
  const { trainer, gateRows } = deps;
  const losses = await trainer.evaluate(initialMatrices(trainer.layout, run.seed), gateRows);
  return new PoisonedSwarm(run, deps, losses).run();
}

class PoisonedSwarm {
  readonly #run: PoisonRun;
  readonly #deps: PoisonDeps;
  readonly #clock = new VirtualClock(1_700_000_000_000);
  readonly #coordinator: VirtualCoordinator;
  readonly #toy: ToyJob;
  readonly #nodes: VirtualNode[];
  readonly #books: Books | null;
  readonly #attackRandom: SeededRandom;
  /** Changes of the honest nodes, by round. */
  readonly #changes = new Map<number, Delta[]>();
  #validatedRows = 0;

  constructor(run: PoisonRun, deps: PoisonDeps, initial: readonly RowLoss[]) {
    this.#run = run;
    this.#deps = deps;
    this.#attackRandom = new SeededRandom(run.seed, 1);
    const { trainer, rows } = deps;
    const random = new VirtualRandom(run.seed);
    const clock = this.#clock;
    const network = new VirtualNetwork({ delayMs: [1, 5], loss: 0, duplicates: 0 }, { clock, random });
    this.#toy = toyJob(COORDINATOR, {
      layout: trainer.layout,
      rows,
      initial: initialMatrices(trainer.layout, run.seed),
      training: { batchSize: BATCH, microBatch: BATCH },
      rounds: { count: run.rounds, localSteps: run.steps, minPeers: 2, preset: 'balanced' },
    });
    // Rounds sort nodes by peer id. With these numbers the attackers come last, so honest nodes have the same rows as
    // in the clean run.
    const numbers = Array.from({ length: run.honest + run.attackers }, (_, i) => i + 1).sort((a, b) =>
      signerOf(a).peerId < signerOf(b).peerId ? -1 : 1,
    );
    const peers = numbers.map((number) => signerOf(number).peerId);
    this.#books = run.split === 'even' ? null : new Books(rows, this.#partOwners(peers));
    const environment = { clock, network, random, log: silentLogger };
    this.#coordinator = new VirtualCoordinator(
      {
        toy: this.#toy,
        retention: { checkpoints: 0, rounds: 8 },
        validator: this.#validator(),
        baseline: {
          loss: meanLoss(initial)!,
          tokens: initial.reduce((sum, { tokens }) => sum + tokens, 0),
        },
        randomBytes: seededBytes(run.seed),
        // An audit would get the rows of the whole book, and every node of a split book would fail.
        audits: run.split === 'even',
      },
      environment,
    );
    this.#nodes = numbers.map((number, i) => {
      const attack = i < run.honest ? null : attackOf(i - run.honest, run.attack);
      const slowness = run.unequal && run.honest > 1 ? 1 + (2 * i) / (run.honest - 1) : 1;
      const node = new VirtualNode(
        {
          number,
          coordinator: COORDINATOR.peerId,
          layout: trainer.layout,
          msPerStep: 0,
          options: { job: this.#toy.job },
          trainerFor: (own) => this.#nodeTrainer(peers[i]!, own, { attack, slowness }),
          ...(attack !== null && run.behaviour === 'burst' && { networkFor: heldBack }),
        },
        environment,
      );
      // Saves the virtual time of fetching the data.
      for (const [digest, bytes] of this.#coordinator.disk.files) node.disk.files.set(digest, bytes);
      return node;
    });
  }

  async run(): Promise<PoisonOutcome> {
    const { rounds } = this.#run;
    const coordinator = this.#coordinator;
    coordinator.start();
    for (const node of this.#nodes) node.start();
    const ended = (): boolean => coordinator.finished || coordinator.phase === 'paused';
    await this.#clock.run(ended, Math.max(1, rounds / 100) * VIRTUAL_DAY_MS);
    const outcome = this.#outcome();
    coordinator.crash();
    for (const node of this.#nodes) {
      node.crash();
      node.database.close();
    }
    return outcome;
  }

  /** The clean run with fewer nodes has the same parts as the run with all of them. */
  #partOwners(peers: readonly string[]): string[] {
    const missing = Array.from({ length: Math.max(0, 10 - peers.length) }, (_, i) => `nobody ${i}`);
    return [...peers, ...missing];
  }

  #validator(): Validator {
    const { trainer, gateRows } = this.#deps;
    const counted = async <T>(rows: number, work: Promise<T>): Promise<T> => {
      this.#validatedRows += rows;
      return this.#clock.hold(work);
    };
    return {
      evaluate: (_job: ValidationJob, adapter: readonly Float32Array[]): Promise<RowLoss[]> =>
        this.#clock.hold(trainer.evaluate(adapter, gateRows)),
      gradient: (
        _job: ValidationJob,
        adapter: readonly Float32Array[],
        rows: readonly Row[],
      ): Promise<LossGradient> => counted(rows.length, trainer.gradient(adapter, this.#rowsFor(rows))),
      losses: (
        _job: ValidationJob,
        adapter: readonly Float32Array[],
        rows: readonly Row[],
      ): Promise<RowLoss[]> =>
        counted(LOSS_COST * rows.length, trainer.evaluate(adapter, this.#rowsFor(rows))),
      train: async (_job: ValidationJob, { rows, ...training }: StepsToMake): Promise<StepsMade> => {
        const work = this.#train({ ...training, rows: this.#rowsFor(rows) });
        const { adapter, optimizer, result } = await counted(rows.length, work);
        return { adapter, optimizer, steps: result.steps, rows: rows.length, isComplete: true };
      },
      release: async () => {},
    };
  }

  #rowsFor(rows: readonly Row[], reader?: string): readonly Row[] {
    const { store } = this.#coordinator;
    return this.#books?.replace(rows, { job: this.#toy.job, store, ...(reader && { reader }) }) ?? rows;
  }

  #nodeTrainer(
    peer: string,
    clock: Clock,
    { attack, slowness }: { attack: string | null; slowness: number },
  ): NodeTrainer {
    const { trainer } = this.#deps;
    const { behaviour } = this.#run;
    return {
      engine: 'bench',
      note: null,
      restarts: 0,
      prepare: async () => trainer.layout,
      train: async (task, { signal }) => {
        const round = this.#round();
        const rows = this.#rowsFor(task.rows, peer);
        const ms = task.steps * MS_PER_STEP * slowness;
        const isPoisoned = attack !== null && attacksIn(round, behaviour);
        if (!isPoisoned) {
          const trained = await this.#train({ ...task, rows });
          if (attack === null) this.#noteChange(round, changeOf(task.adapter, trained.adapter));
          await sleep(clock, ms, signal);
          return trained;
        }
        // The honest nodes' changes are known as soon as they have started to train. A fast attacker cannot wait.
        const isFast = behaviour === 'fast';
        await sleep(clock, isFast ? FAST_MS : ms, signal);
        const known = this.#changes.get(isFast ? round - 1 : round) ?? [];
        return this.#poison(attack, { ...task, rows }, { honest: known, seconds: ms / 1000 });
      },
      keepBases: async () => {},
      stop: async () => {},
    };
  }

  /** Makes an attacker's round. Its claims are those of an honest node that did what it was assigned. */
  async #poison(
    attack: string,
    task: TrainTask,
    { honest, seconds }: { honest: readonly Delta[]; seconds: number },
  ): Promise<TrainedRound> {
    let { optimizer } = task;
    const train = async (rows: readonly Row[], steps = task.steps): Promise<Delta> => {
      const trained = await this.#train({ ...task, rows, steps });
      optimizer = trained.optimizer;
      return changeOf(task.adapter, trained.adapter);
    };
    const known = honest.length > 0 ? honest : [await train(task.rows)];
    const { rows, steps } = task;
    const change = await ATTACKS[attack]!({ rows, steps, train, honest: known, random: this.#attackRandom });
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

  #train({ adapter, optimizer, rows, steps, position }: TrainTask): Promise<TrainedRound> {
    return this.#clock.hold(
      this.#deps.trainer.train({ adapter, optimizer, rows, steps, ...(position && { position }) }),
    );
  }

  #round(): number {
    return this.#coordinator.store.rounds.newest(this.#toy.job, 1)[0]!.round;
  }

  #noteChange(round: number, change: Delta): void {
    this.#changes.set(round, [...(this.#changes.get(round) ?? []), change]);
    this.#changes.delete(round - 2);
  }

  #outcome(): PoisonOutcome {
    const { run, store, job } = { run: this.#run, store: this.#coordinator.store, job: this.#toy.job };
    const attackers = new Set(this.#nodes.slice(run.honest).map(({ peer }) => peer));
    const honest = this.#nodes.slice(0, run.honest).map(({ peer }) => peer);
    const isPoisoned = ({ peer, round }: { peer: string; round: number }): boolean =>
      attackers.has(peer) && attacksIn(round, run.behaviour);
    const checkpoints = new Map(
      store.rounds
        .checkpoints(job)
        .map(({ round, envelope }) => [round, verifyMessage('checkpoint', envelope).message]),
    );
    const closed = store.rounds.newest(job, 100_000).reverse();
    const firstMerge = new Map<string, number>();
    const lastMerge = new Map<string, number>();
    let trainedRows = 0;
    let disbelieved = 0;
    const excluded = new Set<string>();
    const rounds = closed.map(({ round, outcome, assignments }): PoisonedRound => {
      const updates = store.updates.selected(job, round);
      for (const update of updates) {
        const given = assignments.find(({ peer }) => peer === update.peer);
        if (update.round === round && given) trainedRows += given.end - given.start;
        if (isPoisoned(update) && !firstMerge.has(update.peer)) firstMerge.set(update.peer, round);
      }
      const contributors = checkpoints.get(round)?.contributors ?? null;
      const total = contributors?.reduce((sum, { weight }) => sum + weight, 0) ?? 0;
      const theirs = contributors?.filter(({ peer }) => attackers.has(peer)) ?? [];
      for (const one of theirs) if (isPoisoned(one) && one.weight > 0) lastMerge.set(one.peer, round);
      if (round > 1) {
        for (const peer of honest) if (!assignments.some((given) => given.peer === peer)) excluded.add(peer);
      }
      const scores = store.scores.ofMerge(job, round);
      for (const { peer, belief, isHarmful } of scores) {
        const known = store.scores.shares(job, peer, { before: round, limit: NEWCOMER_UPDATES });
        if (honest.includes(peer) && (isHarmful || (belief === 0 && known.length === NEWCOMER_UPDATES)))
          disbelieved++;
      }
      const beliefs = (which: (peer: string) => boolean): number[] =>
        scores.filter(({ peer }) => which(peer)).map(({ belief }) => belief);
      const good = beliefs((peer) => !attackers.has(peer));
      const bad = beliefs((peer) => attackers.has(peer));
      const steps = (which: (peer: string) => boolean): number =>
        assignments.filter(({ peer }) => which(peer)).reduce((sum, given) => sum + given.steps, 0);
      return {
        round,
        outcome,
        share: total > 0 ? theirs.reduce((sum, { weight }) => sum + weight, 0) / total : null,
        assigned:
          steps((peer) => attackers.has(peer)) /
          Math.max(
            1,
            steps(() => true),
          ),
        poisoned: updates.filter(isPoisoned).length,
        honestBelief: good.length > 0 ? { least: Math.min(...good), mean: mean(good) } : null,
        attackersBelief: bad.length > 0 ? mean(bad) : null,
        heldOutLoss: checkpoints.get(round)?.metrics.heldOutLoss ?? null,
      };
    });
    const events = store.events.after(job, 0, EVENTS);
    const strikes: PoisonOutcome['strikes'] = { honest: {}, attackers: {} };
    for (const event of events) {
      if (event.type !== 'struck' && event.type !== 'suspended' && event.type !== 'banned') continue;
      const isHonest = honest.includes(event.peer);
      if (isHonest && event.type !== 'struck') excluded.add(event.peer);
      const counts = strikes[isHonest ? 'honest' : 'attackers'];
      const what = event.type === 'struck' ? event.kind : event.type;
      counts[what] = (counts[what] ?? 0) + 1;
    }
    const lastRound = [...checkpoints.keys()].at(-1)!;
    const { adapter } = checkpoints.get(lastRound)!;
    return {
      phase: this.#coordinator.phase,
      rounds,
      adapter: decodeAdapter(this.#coordinator.disk.files.get(adapter.digest)!, this.#deps.trainer.layout),
      attackers: [...attackers].map((peer, i) => {
        const last = lastMerge.get(peer);
        const ofRound = (round: number): number | null =>
          store.scores.ofMerge(job, round).find((score) => score.peer === peer)?.belief ?? null;
        return {
          attack: attackOf(i, run.attack),
          weightlessAfter:
            last === lastRound ? null : last === undefined ? 0 : last - firstMerge.get(peer)! + 1,
          beliefs: closed.map(({ round }) => ofRound(round)),
        };
      }),
      excluded: excluded.size,
      disbelieved,
      receipts: { honest: this.#receipts(honest), attackers: this.#receipts([...attackers]) },
      strikes,
      scores: closed.flatMap(({ round }) =>
        store.scores.ofMerge(job, round).map(({ peer, figures, share }) => ({
          round,
          attack: attackers.has(peer) ? attackOf([...attackers].indexOf(peer), run.attack) : null,
          effect: figures?.effect ?? null,
          gain: figures?.gain ?? null,
          share,
        })),
      ),
      rollBacks: events.filter(({ type }) => type === 'rolled-back').length,
      extraWork: this.#validatedRows / Math.max(1, trainedRows),
    };
  }

  #receipts(peers: readonly string[]): Record<string, number> {
    const { store } = this.#coordinator;
    const codes: Record<string, number> = {};
    for (const peer of peers) {
      for (const { code } of store.updates.receipts(this.#toy.job, peer, RECEIPTS)) {
        codes[code] = (codes[code] ?? 0) + 1;
      }
    }
    return codes;
  }
}

/**
 * Returns a network that drops the updates that the node publishes, and holds back those that the node then submits. When
 * it has those of HELD_BACK rounds, it submits them together.
 */
function heldBack(host: VirtualHost): SwarmNetwork {
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

/** Returns the attack of one of the attackers, which take turns in a list of attacks. */
function attackOf(attacker: number, attack: string): string {
  const attacks = attack.split(' + ');
  return attacks[attacker % attacks.length]!;
}

function attacksIn(round: number, behaviour: PoisonRun['behaviour']): boolean {
  if (behaviour === 'late-start') return round > GOOD_ROUNDS;
  return behaviour !== 'on-off' || round % 3 === 0;
}

/** Returns the adapter before minus the adapter after. The same function applies a change to an adapter. */
function changeOf(before: readonly Float32Array[], after: readonly Float32Array[]): Delta {
  return before.map((values, t) => values.map((value, i) => value - after[t]![i]!));
}

function seededBytes(seed: number): (count: number) => Uint8Array {
  const random = new SeededRandom(seed, 2);
  return (count) => Uint8Array.from({ length: count }, () => random.integer(256));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
