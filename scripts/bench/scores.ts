import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Row } from '../../lora/data/row.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import type { Trainer } from '../../lora/train/trainer.ts';
import { medianNormClip, type Preset, updateNorms } from '../../lora/update/index.ts';
import type { LossGradient, UpdateScore } from '../../lora/update/score.ts';
import { scoreUpdate } from '../../test/utils/swarm/score-update.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { ATTACKS, SEPARATOR } from './attackers.ts';
import { nanoTrainer, prepare } from './learning.ts';
import { type RandomFamily, writeRandomBase } from './random-base.ts';
import { gradientOn, HONEST, honestMedian, pick, type RoundSettings, trainRounds } from './round-training.ts';
import { twoBooks } from './two-books.ts';

export const name = 'scores';
export const about =
  'how much the scores of honest nodes differ from the scores of attackers, in several settings (30 minutes)';

/** Number of batches of random rows in a round. */
const RANDOM_BATCHES = 4;
/** Number of rows in a batch of random rows. */
const RANDOM_ROWS = 8;
/** Numbers of rows of the author's interval. Each update is scored once with each of these numbers. */
const OWN_ROWS = [8, 32];
/**
 * Target for scores, as a fraction of the median score of the honest nodes. Honest nodes should reach this target, and
 * attackers should stay below it.
 */
const LINE = 0.4;
/**
 * Attacks that a score cannot find. Clipping undoes the multiplication of `times N`, which leaves an honest update. The
 * updates of the other attacks lower the loss by as much as their scores say.
 */
const NOT_FOUND = ['times 3', 'times 100', 'half the steps, scaled up', 'backdoor'];

interface Setting {
  readonly preset: Preset;
  /** Rank of the adapter. @default the rank of the benchmark `learning` */
  readonly rank?: number;
  /** Family of a base with random weights. @default models/nano */
  readonly family?: RandomFamily;
  /** Bits of the nodes' base. The coordinator computes scores on a 32-bit base. @default 32 */
  readonly bits?: BaseBits;
  /** Dropout in training. The gradients of the scores have it too, as in a coordinator. @default 0 */
  readonly dropout?: number;
  /** NEFTune's α in training. The gradients of the scores have the noise too, as in a coordinator. @default 0 */
  readonly neftuneAlpha?: number;
}

/** Settings that option --shape can choose. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  balanced: { preset: 'balanced' },
  dense: { preset: 'dense' },
  tiny: { preset: 'tiny' },
  quality: { preset: 'quality' },
  'rank 4': { preset: 'balanced', rank: 4 },
  '8 bits': { preset: 'balanced', bits: 8 },
  '4 bits': { preset: 'balanced', bits: 4 },
  'dropout 0.1': { preset: 'balanced', dropout: 0.1 },
  'dropout 0.4': { preset: 'balanced', dropout: 0.4 },
  'NEFTune 5': { preset: 'balanced', neftuneAlpha: 5 },
  'random llama': { preset: 'balanced', family: 'llama' },
  'random qwen3': { preset: 'balanced', family: 'qwen3' },
};

export const shapes = Object.keys(SETTINGS);

/** Ways to split the data, which option --split can choose. */
const SPLITS: Readonly<Record<string, string>> = {
  even: 'evenly drawn',
  'own-book': "each node's own part of the book",
  'two-books': "each node's own part of one of two books",
};

/**
 * Scores the updates of honest nodes and of one node for each attack, in the same way as the coordinator. The adapter
 * improves from round to round, because only the honest updates are merged. Effect and gain are divided by the median
 * of the honest nodes in the round.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const {
    quick = false,
    choices = {},
    shapes: chosen = quick ? ['balanced'] : Object.keys(SETTINGS),
  } = options;
  const attacks = choices.attack?.split(SEPARATOR) ?? Object.keys(ATTACKS);
  const rounds = Number(choices.rounds ?? (quick ? 2 : 5));
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-scores-'));
  const { trainer: ready, rows, heldOut } = await prepare(folder);
  await ready.dispose();
  try {
    for (const label of chosen) {
      const { preset, family, bits = 32, ...training } = SETTINGS[label]!;
      const base = family && (await writeRandomBase(join(folder, family), family));
      const model = { ...training, ...(base && { base }) };
      const scorer = await nanoTrainer(folder, model);
      const trainer = bits === 32 ? scorer : await nanoTrainer(folder, { ...model, bits });
      for (const split of choices.split?.split(',') ?? Object.keys(SPLITS)) {
        const settings = { preset, split: split !== 'even', rounds, seed: 1 };
        const data =
          split === 'two-books' ? (await twoBooks({ rows, heldOut }, HONEST + attacks.length)).rows : rows;
        await measure(
          { label: `${label}, ${SPLITS[split]}`, attacks, settings },
          { trainer, scorer, rows: data },
          report,
          options.log,
        );
      }
      await trainer.dispose();
      await scorer.dispose();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  { label, attacks, settings }: { label: string; attacks: readonly string[]; settings: RoundSettings },
  { trainer, scorer, rows }: { trainer: Trainer; scorer: Trainer; rows: readonly Row[] },
  report: (row: BenchRow) => void,
  log: (line: string) => void,
): Promise<void> {
  const { rounds } = settings;
  /** Lowest and highest value over all rounds, by node and figure, relative to the median of the honest nodes. */
  const seen = new Map<string, { least: number; most: number }>();
  const note = (who: string, share: number): void => {
    const { least, most } = seen.get(who) ?? { least: Infinity, most: -Infinity };
    seen.set(who, { least: Math.min(least, share), most: Math.max(most, share) });
  };
  const trained = trainRounds(
    attacks.map((attack) => ATTACKS[attack]!),
    settings,
    { trainer, rows },
  );
  for await (const { round, adapter, shares, rest, updates, random } of trained) {
    const gradient = (some: readonly Row[]) => gradientOn(scorer, adapter, some);
    const scales = medianNormClip(updates.map(updateNorms));
    const randomGradients: LossGradient[] = [];
    for (let i = 0; i < RANDOM_BATCHES; i++) {
      randomGradients.push(await gradient(pick(rest, RANDOM_ROWS, random)));
    }
    for (const ownRows of OWN_ROWS) {
      const scores: UpdateScore[] = [];
      for (const [i, update] of updates.entries()) {
        const own = await gradient(pick(shares[i]!, ownRows, random));
        scores.push(scoreUpdate(update, { random: randomGradients, own, scale: scales[i]! }));
      }
      const [effect, gain] = [honestMedian(scores, 'effect'), honestMedian(scores, 'gain')];
      for (const [i, score] of scores.entries()) {
        const who = i < HONEST ? 'honest' : attacks[i - HONEST]!;
        const share = Math.min(score.effect / effect, score.gain / gain);
        note(`${who}, ${ownRows} own rows`, share);
        note(`${who}, effect`, score.effect / effect);
        log(
          `round ${round} ${who} (${ownRows}): effect ${(score.effect / effect).toFixed(2)} gain ${(score.gain / gain).toFixed(2)}`,
        );
      }
    }
  }
  const where = `${label}, ${rounds} rounds`;
  for (const [who, { least, most }] of seen) {
    const isHonest = who.startsWith('honest');
    const isJudged = who.endsWith('own rows') && !NOT_FOUND.some((attack) => who.startsWith(attack));
    report({
      name: `${name} ${who}`,
      value: isHonest ? least : most,
      unit: 'of the honest median',
      target: isJudged ? LINE : null,
      met: isJudged ? (isHonest ? least >= LINE : most < LINE) : null,
      reference: `${where}; ${least.toFixed(2)} to ${most.toFixed(2)}`,
    });
  }
}
