/** The pretraining loop: full-parameter training with the project's own graph, engine and optimiser. */
import type { Row } from '../../lora/data/row.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { Engine, Executable } from '../../lora/engines/engine.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { AdamW } from '../../lora/train/optimizer/adamw.ts';
import { learningRateAt } from '../../lora/train/optimizer/schedule.ts';
import { lossAndGradients, trainingGraph } from '../../lora/train/step.ts';
import { loadState, type PretrainState, saveState } from './checkpoint.ts';
import { PassageSampler, type Speech } from './corpus.ts';
import type { HeldOut } from './held-out.ts';
import { initialWeights } from './initialise.ts';
import { MODEL, NANO_CONFIG, RECIPE, RECIPE_SEED, STAGES, type Stage } from './recipe.ts';
import { trainableParameters } from './trainable-parameters.ts';

/**
 * The time per step is measured from step MEASURE_FROM to step MEASURE_UNTIL. If no total number of steps is
 * given, the total is computed from this time. The total may still be unknown during the measurement, because
 * these steps are in the warm-up, where the learning rate does not depend on the total.
 */
const MEASURE_FROM = 10;
const MEASURE_UNTIL = 60;
const REPORT_EVERY_STEPS = 50;
/**
 * Number of steps after which the model is evaluated and the state is saved. A killed run loses at most a few minutes
 * of work.
 */
const SAVE_EVERY_STEPS = 250;

export interface PretrainOptions {
  stateDir: string;
  /** Number of steps; null for as many as fit into `seconds`, according to a measurement at the start. */
  steps: number | null;
  seconds: number;
}

export interface PretrainDeps {
  engine: Engine;
  tokenizer: TextTokenizer;
  training: readonly Speech[];
  heldOut: HeldOut;
  log(line: string): void;
}

/** Trains to the end of the schedule, from the saved state if there is one. Saves the final state. */
export async function pretrain(options: PretrainOptions, deps: PretrainDeps): Promise<void> {
  const state = (await loadState(options.stateDir)) ?? (await freshState(deps));
  state.totalSteps ||= options.steps ?? 0;
  const run = new Run(state, options, deps);
  let clock = performance.now();
  let measureSince = 0;
  while (!run.finished) {
    await run.step();
    const now = performance.now();
    state.seconds += (now - clock) / 1000;
    clock = now;
    if (run.steps === MEASURE_FROM) measureSince = now;
    if (state.totalSteps === 0 && run.steps === MEASURE_UNTIL) {
      const perStep = (now - measureSince) / 1000 / (MEASURE_UNTIL - MEASURE_FROM);
      state.totalSteps = Math.max(RECIPE.warmupSteps + 1, Math.floor(options.seconds / perStep));
      deps.log(`${perStep.toFixed(3)} s per step: ${state.totalSteps} steps`);
    }
    if (run.steps % REPORT_EVERY_STEPS === 0) run.report();
    if (run.steps % SAVE_EVERY_STEPS === 0 || run.finished) {
      await run.save();
      // Held-out evaluation does not count as training time.
      clock = performance.now();
    }
  }
  await run.dispose();
}

async function freshState({ heldOut, log }: PretrainDeps): Promise<PretrainState> {
  const { layers } = MODEL.config;
  const deviation = NANO_CONFIG.initializer_range;
  const parameters = initialWeights(llama.parameters(MODEL.config), { layers, deviation, seed: RECIPE_SEED });
  const { loss, bitsPerByte } = await heldOut.whole(parameters);
  log(`untrained: held-out loss ${loss.toFixed(4)}, ${bitsPerByte.toFixed(4)} bits per byte`);
  return {
    stage: 0,
    epoch: 0,
    cursor: 0,
    totalSteps: 0,
    tokens: 0,
    seconds: 0,
    bitsPerByteBefore: bitsPerByte,
    parameters,
    optimizer: optimizerFor().exportState(),
  };
}

function optimizerFor(): AdamW {
  const { betas, weightDecay } = RECIPE;
  const tensors = llama.parameters(MODEL.config).map(({ shape }) => ({
    size: shape.reduce((product, n) => product * n, 1),
    decay: shape.length > 1,
  }));
  return new AdamW({ tensors, betas, weightDecay });
}

/** A pretraining run. Changes `state` in place. */
class Run {
  readonly #state: PretrainState;
  readonly #options: PretrainOptions;
  readonly #deps: PretrainDeps;
  readonly #optimizer: AdamW;
  readonly #named: Map<string, Float32Array>;
  readonly #gradients: Float32Array[];
  #open: OpenStage | null = null;
  #rows: Row[] = [];
  #window = { loss: 0, tokens: 0, seconds: 0 };

  constructor(state: PretrainState, options: PretrainOptions, deps: PretrainDeps) {
    this.#state = state;
    this.#options = options;
    this.#deps = deps;
    this.#optimizer = optimizerFor();
    this.#optimizer.importState(state.optimizer);
    const list = llama.parameters(MODEL.config);
    this.#named = new Map(list.map(({ name }, i) => [name, state.parameters[i]!]));
    this.#gradients = state.parameters.map((tensor) => new Float32Array(tensor.length));
    this.#window.seconds = state.seconds;
    const count = state.parameters.reduce((sum, { length }) => sum + length, 0);
    deps.log(`${count} parameters, step ${this.steps}`);
  }

  get steps(): number {
    return this.#optimizer.steps;
  }

  get finished(): boolean {
    return this.#state.totalSteps > 0 && this.steps >= this.#state.totalSteps;
  }

  async step(): Promise<void> {
    const state = this.#state;
    const { stage, executable } = await this.#stage();
    const batch = this.#rows.slice(state.cursor, state.cursor + stage.batch);
    const options = { batch: stage.batch, length: stage.length, pause: async () => {} };
    const { lossSum, tokens } = await lossAndGradients(
      executable,
      batch,
      this.#named,
      this.#gradients,
      options,
    );
    this.#optimizer.step(state.parameters, this.#gradients, {
      learningRate: this.#learningRate(this.steps),
      gradientScale: 1 / tokens,
      clipNorm: RECIPE.clipNorm,
    });
    state.cursor += stage.batch;
    state.tokens += tokens;
    this.#window.loss += lossSum;
    this.#window.tokens += tokens;
  }

  report(): void {
    const state = this.#state;
    const window = this.#window;
    const figures = [
      `step ${this.steps}/${state.totalSteps} epoch ${state.epoch}`,
      `loss ${(window.loss / window.tokens).toFixed(4)}`,
      `lr ${this.#learningRate(this.steps - 1).toExponential(2)}`,
      `${(window.tokens / (state.seconds - window.seconds)).toFixed(0)} tokens/s`,
    ];
    this.#deps.log(figures.join(' '));
    this.#window = { loss: 0, tokens: 0, seconds: state.seconds };
  }

  async save(): Promise<void> {
    this.#state.optimizer = this.#optimizer.exportState();
    await saveState(this.#options.stateDir, this.#state);
    const { loss, tokens } = await this.#deps.heldOut.sample(this.#state.parameters);
    this.#deps.log(`step ${this.steps} held-out loss ${loss.toFixed(4)} (${tokens} tokens)`);
  }

  async dispose(): Promise<void> {
    await this.#open?.executable.dispose();
  }

  #learningRate(step: number): number {
    return learningRateAt({ ...RECIPE, totalSteps: this.#state.totalSteps }, step);
  }

  /**
   * Returns the stage to which the next step belongs. Opens the next stage if the current stage is over, and draws the
   * rows of the next epoch if too few rows are left for the step.
   */
  async #stage(): Promise<OpenStage> {
    const state = this.#state;
    if (this.#open !== null) {
      const { until, batch } = this.#open.stage;
      const over = state.totalSteps > 0 && this.steps >= until * state.totalSteps;
      if (!over && state.cursor + batch <= this.#rows.length) return this.#open;
      state.epoch++;
      state.cursor = 0;
      if (over) {
        await this.#open.executable.dispose();
        state.stage++;
        this.#open = null;
      }
    }
    this.#open ??= await openStage(STAGES[state.stage]!, this.#deps);
    this.#rows = this.#open.sampler.rows(RECIPE_SEED, state.epoch);
    return this.#stage();
  }
}

interface OpenStage {
  readonly stage: Stage;
  readonly executable: Executable;
  readonly sampler: PassageSampler;
}

async function openStage(
  stage: Stage,
  { engine, training, tokenizer, log }: PretrainDeps,
): Promise<OpenStage> {
  const { graph } = trainingGraph({ ...MODEL, ...stage }, (g) => trainableParameters(g, llama, MODEL.config));
  const executable = await engine.compile(graph, null);
  const sampler = new PassageSampler({ sequenceLength: stage.length }, { speeches: training, tokenizer });
  log(`steps of ${stage.batch} rows of ${stage.length} tokens`);
  return { stage, executable, sampler };
}
