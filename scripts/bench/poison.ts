import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import type { BenchOptions, BenchRow, RunChoices } from '../bench.ts';
import { ATTACKS, SEPARATOR, withTrigger } from './attackers.ts';
import { prepare } from './learning.ts';
import type { PoisonOutcome } from './poison-outcome.ts';
import { BEHAVIOURS, type PoisonRun, SPLITS } from './poison-run.ts';
import { type PoisonDeps, runPoisoned } from './poison-swarm.ts';
import { SharedTrainer } from './poison-trainer.ts';
import { twoBooks } from './two-books.ts';

export const name = 'poison';
export const about =
  'effect of attackers on a whole swarm: loss, weight of the attackers, excluded honest nodes, extra work (1 minute per run)';

const NODES = 10;
const STEPS = 8;
/** A small swarm without attackers. Its small size makes runs of a hundred rounds affordable. */
const HONEST_SWARM = { attackers: 0, honest: 6, steps: 4, unequal: true };
const ROUNDS = 5;
/** Number of rounds of a run whose attackers are honest in the first five rounds. */
const LATE_START_ROUNDS = 10;
const GATE_ROWS = 32;
/** Maximum increase of the final loss, as a fraction of the final loss of the clean run. */
const LOSS_TARGET = 0.01;
/** Target: maximum number of rounds that an attacker needs to lose all weight. */
const WEIGHTLESS_TARGET = 3;
/** Maximum number of rows that scoring and audits process, as a fraction of the rows that the nodes train on. */
const WORK_TARGET = 0.1;
/**
 * Attacks whose attackers may keep their weight. The attack `times N` multiplies an honest update by N, and
 * clipping undoes this multiplication. A backdoor does not raise the loss, and the coordinator does not
 * detect it.
 */
const NO_TARGET = ['times 3', 'times 100', 'backdoor'];

/** The outcome of a run, without its adapter: one line of the file --out. */
interface Entry extends PoisonOutcome {
  readonly run: PoisonRun;
  /** Held-out loss of the newest checkpoint, in nats per token. */
  readonly loss: number;
  /** Mean probability that the model gives the backdoor's target after the backdoor's trigger. */
  readonly backdoor: number;
  readonly seconds: number;
}

/**
 * Runs swarms of ten nodes with 1 to 3 attackers: the real coordinator and real nodes on a virtual clock and network, with
 * real training of models/nano on Moby Dick. Each swarm is compared with a clean run of its honest nodes alone.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const { log, choices = {} } = options;
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-poison-'));
  const { trainer, rows, heldOut } = await prepare(folder);
  const shared = new SharedTrainer(trainer);
  const depsOf = async (split: PoisonRun['split']): Promise<Deps> => {
    const novel = { rows: distinct(rows), heldOut };
    const data = split === 'two-books' ? await twoBooks(novel, NODES) : novel;
    const every = Math.ceil(heldOut.length / GATE_ROWS);
    return { trainer: shared, ...data, gateRows: data.heldOut.filter((_, i) => i % every === 0) };
  };
  try {
    const done = await readEntries(choices.out);
    const measured = async (wanted: PoisonRun): Promise<Entry> => {
      const known = done.get(keyOf(wanted));
      if (known) return known;
      const entry = await measure(wanted, await depsOf(wanted.split));
      done.set(keyOf(wanted), entry);
      if (choices.out) await appendFile(choices.out, `${JSON.stringify(entry)}\n`);
      log(progressLine(entry));
      return entry;
    };
    for (const wanted of runsOf(choices, options.quick ?? false)) {
      const clean = await measured({ ...wanted, attack: 'none', attackers: 0, behaviour: 'plain' });
      if (wanted.attack !== 'none') report(compared(await measured(wanted), clean));
      else report(honestRow(clean));
    }
  } finally {
    await trainer.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Deps extends PoisonDeps {
  readonly heldOut: readonly Row[];
}

/**
 * Returns the chosen runs. Runs that are compared with the same clean run follow each other. Their first rounds are
 * equal, so the trainer reuses its results.
 */
function runsOf(choices: RunChoices, quick: boolean): PoisonRun[] {
  const list = (key: keyof RunChoices, all: readonly string[]): string[] =>
    choices[key]?.split(SEPARATOR) ?? [...all];
  const attacks = list('attack', quick ? ['sign flip'] : Object.keys(ATTACKS));
  const unknown = attacks
    .flatMap((attack) => attack.split(' + '))
    .filter((attack) => attack !== 'none' && !(attack in ATTACKS));
  if (unknown.length > 0)
    throw new Error(
      `no attack is called ${unknown.join(', ')}; the attacks are ${Object.keys(ATTACKS).join(', ')}`,
    );
  const seeds = Array.from({ length: Number(choices.seeds ?? 1) }, (_, i) => i + 1);
  const runs: PoisonRun[] = [];
  for (const seed of seeds) {
    for (const split of list('split', quick ? ['even'] : SPLITS.slice(0, 2)) as PoisonRun['split'][]) {
      for (const attackers of list('attackers', ['3']).map(Number)) {
        for (const behaviour of list('behaviour', ['plain']) as PoisonRun['behaviour'][]) {
          if (!BEHAVIOURS.includes(behaviour)) throw new Error(`no behaviour is called ${behaviour}`);
          const most = behaviour === 'late-start' ? LATE_START_ROUNDS : ROUNDS;
          const rounds = Number(choices.rounds ?? (quick ? 2 : most));
          for (const attack of attacks) {
            const common = { attack, behaviour, split, seed, rounds };
            runs.push(
              attack === 'none'
                ? { ...common, ...HONEST_SWARM }
                : {
                    ...common,
                    attackers,
                    honest: NODES - attackers,
                    steps: quick ? 2 : STEPS,
                    unequal: false,
                  },
            );
          }
        }
      }
    }
  }
  return runs;
}

async function measure(run: PoisonRun, deps: Deps): Promise<Entry> {
  const startedAt = performance.now();
  const { adapter, ...outcome } = await runPoisoned(run, deps);
  const { trainer, heldOut, gateRows } = deps;
  const triggered = withTrigger(gateRows, { only: true });
  const probabilities = (await trainer.evaluate(adapter, triggered)).map(({ lossSum, tokens }) =>
    Math.exp(-lossSum / tokens),
  );
  return {
    run,
    ...outcome,
    loss: lossOf(await trainer.evaluate(adapter, heldOut)),
    backdoor: probabilities.reduce((sum, p) => sum + p, 0) / probabilities.length,
    seconds: (performance.now() - startedAt) / 1000,
  };
}

function compared(entry: Entry, clean: Entry): BenchRow {
  const { run, attackers, excluded, extraWork, phase, rounds } = entry;
  const increase = entry.loss / clean.loss - 1;
  const missed = [
    ...(increase > LOSS_TARGET ? ['loss'] : []),
    ...attackers
      .filter(({ attack, weightlessAfter }) => !isWeightless(weightlessAfter) && !NO_TARGET.includes(attack))
      .map(({ attack }) => `weight of ${attack}`),
    ...(excluded > 0 ? ['honest excluded'] : []),
    ...(extraWork > WORK_TARGET ? ['work'] : []),
    ...(phase === 'finished' ? [] : [phase]),
  ];
  const isJudged = run.attack !== 'backdoor';
  const shares = rounds.map(({ share }) => (share === null ? '–' : share.toFixed(2))).join(' ');
  return {
    name: `${name} ${run.attack} × ${run.attackers}, ${run.behaviour}, ${run.split}, seed ${run.seed}`,
    value: 100 * increase,
    unit: '% loss',
    target: isJudged ? 100 * LOSS_TARGET : null,
    met: isJudged ? missed.length === 0 : null,
    reference: [
      ...(missed.length > 0 ? [`misses ${missed.join(', ')}`] : []),
      `loss ${entry.loss.toFixed(4)} (clean ${clean.loss.toFixed(4)})`,
      `rounds to lose all weight: ${attackers.map(spanOf).join(', ')}`,
      `share of weight by round ${shares}`,
      `honest excluded ${excluded}, without weight ${entry.disbelieved} times`,
      `extra work ${(100 * extraWork).toFixed(1)} %`,
      `backdoor ${entry.backdoor.toFixed(3)} (clean ${clean.backdoor.toFixed(3)})`,
    ].join('; '),
  };
}

/** Returns whether an attacker lost all weight within WEIGHTLESS_TARGET rounds. */
function isWeightless(after: number | null): boolean {
  return after !== null && after <= WEIGHTLESS_TARGET;
}

function spanOf({ attack, weightlessAfter }: PoisonOutcome['attackers'][number]): string {
  return `${attack} ${weightlessAfter ?? '(has weight at the end)'}`;
}

function honestRow({ run, excluded, disbelieved, loss, rounds }: Entry): BenchRow {
  const least = Math.min(...rounds.flatMap(({ honestBelief }) => honestBelief?.least ?? []));
  return {
    name: `${name} ${run.honest} honest nodes, ${run.split}, ${run.rounds} rounds, seed ${run.seed}`,
    value: excluded,
    unit: 'excluded',
    target: 0,
    met: excluded === 0,
    reference: `loss ${loss.toFixed(4)}; without weight ${disbelieved} times; least belief ${least.toFixed(2)}`,
  };
}

function progressLine({ run, loss, rounds, seconds, receipts, phase, attackers }: Entry): string {
  const shares = rounds.map(({ share }) => share?.toFixed(2) ?? '–').join(' ');
  return `${run.attack} × ${run.attackers} ${run.behaviour} ${run.split} ${run.seed}: loss ${loss.toFixed(4)}, share ${shares}, rounds to lose all weight: ${attackers.map(spanOf).join(', ')}, ${phase}, ${JSON.stringify(receipts.attackers)} in ${seconds.toFixed(0)} s`;
}

/** Reads the runs that an earlier, interrupted call has measured. */
async function readEntries(path: string | undefined): Promise<Map<string, Entry>> {
  const text = path === undefined ? '' : await readFile(path, 'utf8').catch(() => '');
  const entries = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Entry);
  return new Map(entries.map((entry) => [keyOf(entry.run), entry]));
}

function keyOf(run: PoisonRun): string {
  return JSON.stringify(Object.entries(run).sort());
}

function lossOf(losses: readonly { lossSum: number; tokens: number }[]): number {
  const tokens = losses.reduce((sum, row) => sum + row.tokens, 0);
  return losses.reduce((sum, row) => sum + row.lossSum, 0) / tokens;
}

/** Returns the rows without repetitions. */
function distinct(rows: readonly Row[]): Row[] {
  return [...new Map(rows.map((row) => [row.ids.join(), row])).values()];
}
