/** The pretraining loop: full-parameter training with the project's own graph, engine and optimiser. */
import { packedRows, type Row } from '../../lora/data/packing.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { Engine } from '../../lora/engines/engine.ts';
import { parseConfig } from '../../lora/models/config.ts';
import { llama } from '../../lora/models/llama.ts';
import { trainableParameters } from '../../lora/models/parameters.ts';
import { AdamW } from '../../lora/train/adamw.ts';
import { learningRateAt } from '../../lora/train/schedule.ts';
import { lossAndGradients, lossGraph, rowLosses, trainingGraph } from '../../lora/train/step.ts';
import { loadState, type PretrainState, saveState } from './checkpoint.ts';
import { PassageSampler, type Speech } from './corpus.ts';
import { initialWeights } from './initialise.ts';
import { NANO_CONFIG, RECIPE, RECIPE_SEED, STAGES, type Stage } from './recipe.ts';

/** Throughput is measured over these steps, inside the warm-up, whose rate does not depend on the total. */
const MEASURE_FROM = 10;
const MEASURE_UNTIL = 60;
const REPORT_EVERY_STEPS = 50;
/** Held-out loss and a state file; minutes of work at most are lost by a kill. */
const SAVE_EVERY_STEPS = 250;
/** Held-out rows of the reports during training; the figures in the README are over all. */
const REPORT_ROWS = 48;

export interface PretrainDeps {
  engine: Engine;
  tokenizer: TextTokenizer;
  training: Speech[];
  heldOut: Speech[];
  log(line: string): void;
}

export interface HeldOutLoss {
  /** Nats per predicted token. */
  loss: number;
  tokens: number;
  bitsPerByte: number;
}

const model = { config: parseConfig(NANO_CONFIG), architecture: llama };
/** Figures are over rows of the whole context. */
const EVALUATION = STAGES.at(-1)!;
const runOptions = ({ batch, length }: Stage) => ({ batch, length, pause: async () => {} });
const packing = ({ length }: Stage) => ({ ...RECIPE, sequenceLength: length });

/**
 * Held-out loss over whole speeches; bits per byte counts the bytes of the text and the loss of everything
 * predicted, the end-of-text tokens included.
 */
export async function heldOutLoss(
  parameters: readonly Float32Array[],
  { engine, tokenizer, heldOut }: Pick<PretrainDeps, 'engine' | 'tokenizer' | 'heldOut'>,
): Promise<HeldOutLoss> {
  const texts = heldOut.map((speech) => speech.text);
  const rows = await packedRows(texts, tokenizer, packing(EVALUATION));
  const evaluate = await evaluator(engine);
  const { lossSum, tokens } = await evaluate(rows, parameters);
  await evaluate.dispose();
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  return { loss: lossSum / tokens, tokens, bitsPerByte: lossSum / Math.LN2 / bytes };
}

/** Trains until the end of the schedule; `steps` null spends about `seconds`. The result is the saved state. */
export async function pretrain(
  options: { stateDir: string; steps: number | null; seconds: number },
  deps: PretrainDeps,
): Promise<void> {
  const { engine, tokenizer, log } = deps;
  const list = llama.parameters(model.config);
  const evaluate = await evaluator(engine);
  const heldOutTexts = deps.heldOut.map(({ text }) => text);
  const reportRows = (await packedRows(heldOutTexts, tokenizer, packing(EVALUATION))).filter(
    (_, i, all) => i % Math.ceil(all.length / REPORT_ROWS) === 0,
  );

  const optimizer = new AdamW({
    tensors: list.map(({ shape }) => ({ size: shape.reduce((a, b) => a * b, 1), decay: shape.length > 1 })),
    betas: RECIPE.betas,
    weightDecay: RECIPE.weightDecay,
  });
  const state = (await loadState(options.stateDir)) ?? (await freshState());
  optimizer.importState(state.optimizer);
  state.totalSteps ||= options.steps ?? 0;
  const named = new Map(list.map(({ name }, i) => [name, state.parameters[i]!]));
  const gradients = state.parameters.map((tensor) => new Float32Array(tensor.length));
  log(`${state.parameters.reduce((n, p) => n + p.length, 0)} parameters, step ${optimizer.steps}`);
  let current = await openStage(STAGES[state.stage]!, deps);
  let rows = current.rows(state.epoch);

  let window = { loss: 0, tokens: 0, since: performance.now(), seconds: state.seconds };
  let measureSince = 0;
  while (state.totalSteps === 0 || optimizer.steps < state.totalSteps) {
    const { stage } = current;
    const stageOver = state.totalSteps > 0 && optimizer.steps >= stage.until * state.totalSteps;
    if (stageOver || state.cursor + stage.batch > rows.length) {
      state.epoch++;
      state.cursor = 0;
      if (stageOver) {
        await current.executable.dispose();
        state.stage++;
        current = await openStage(STAGES[state.stage]!, deps);
      }
      rows = current.rows(state.epoch);
      continue;
    }
    const batch = rows.slice(state.cursor, state.cursor + stage.batch);
    const { lossSum, tokens } = await lossAndGradients(
      current.executable,
      batch,
      named,
      gradients,
      runOptions(stage),
    );
    const schedule = { ...RECIPE, totalSteps: state.totalSteps };
    const learningRate = learningRateAt(schedule, optimizer.steps);
    optimizer.step(state.parameters, gradients, {
      learningRate,
      gradientScale: 1 / tokens,
      clipNorm: RECIPE.clipNorm,
    });
    state.cursor += stage.batch;
    state.tokens += tokens;
    window.loss += lossSum;
    window.tokens += tokens;
    const now = performance.now();
    state.seconds = window.seconds + (now - window.since) / 1000;

    if (state.totalSteps === 0) {
      if (optimizer.steps === MEASURE_FROM) measureSince = now;
      if (optimizer.steps === MEASURE_UNTIL) {
        const perStep = (now - measureSince) / 1000 / (MEASURE_UNTIL - MEASURE_FROM);
        state.totalSteps = Math.max(RECIPE.warmupSteps + 1, Math.floor(options.seconds / perStep));
        log(`${perStep.toFixed(3)} s per step: ${state.totalSteps} steps`);
      }
    }
    if (optimizer.steps % REPORT_EVERY_STEPS === 0) {
      const speed = window.tokens / ((now - window.since) / 1000);
      log(
        `step ${optimizer.steps}/${state.totalSteps} epoch ${state.epoch} loss ${(window.loss / window.tokens).toFixed(4)} lr ${learningRate.toExponential(2)} ${speed.toFixed(0)} tokens/s`,
      );
      window = { loss: 0, tokens: 0, since: now, seconds: state.seconds };
    }
    if (optimizer.steps % SAVE_EVERY_STEPS === 0 || optimizer.steps === state.totalSteps) {
      state.optimizer = optimizer.exportState();
      await saveState(options.stateDir, state);
      const some = await evaluate(reportRows, state.parameters);
      log(
        `step ${optimizer.steps} held-out loss ${(some.lossSum / some.tokens).toFixed(4)} (${some.tokens} tokens)`,
      );
      window.since += performance.now() - now;
    }
  }
  await current.executable.dispose();
  await evaluate.dispose();

  async function freshState(): Promise<PretrainState> {
    const parameters = initialWeights(list, {
      layers: model.config.layers,
      deviation: NANO_CONFIG.initializer_range,
      seed: RECIPE_SEED,
    });
    const before = await heldOutLoss(parameters, deps);
    log(`untrained: held-out loss ${before.loss.toFixed(4)}, ${before.bitsPerByte.toFixed(4)} bits per byte`);
    return {
      stage: 0,
      epoch: 0,
      cursor: 0,
      totalSteps: 0,
      tokens: 0,
      seconds: 0,
      bitsPerByteBefore: before.bitsPerByte,
      parameters,
      optimizer: optimizer.exportState(),
    };
  }
}

/** The training graph for a stage's rows, and the rows of an epoch. */
async function openStage(stage: Stage, { engine, training, tokenizer, log }: PretrainDeps) {
  const { graph } = trainingGraph({ ...model, ...stage }, (g) => trainableParameters(g, llama, model.config));
  const executable = await engine.compile(graph, null);
  const sampler = new PassageSampler(packing(stage), { speeches: training, tokenizer });
  log(`steps of ${stage.batch} rows of ${stage.length} tokens`);
  return { stage, executable, rows: (epoch: number): Row[] => sampler.rows(RECIPE_SEED, epoch) };
}

async function evaluator(engine: Engine) {
  const graph = lossGraph({ ...model, ...EVALUATION }, (g) => trainableParameters(g, llama, model.config));
  const names = llama.parameters(model.config).map(({ name }) => name);
  const executable = await engine.compile(graph, null);
  const evaluate = async (rows: readonly Row[], parameters: readonly Float32Array[]) => {
    const named = new Map(names.map((name, i) => [name, parameters[i]!]));
    const losses = await rowLosses(executable, rows, named, runOptions(EVALUATION));
    const sum = (of: (row: (typeof losses)[number]) => number) => losses.reduce((a, row) => a + of(row), 0);
    return { lossSum: sum((row) => row.lossSum), tokens: sum((row) => row.tokens) };
  };
  return Object.assign(evaluate, { dispose: () => executable.dispose() });
}
