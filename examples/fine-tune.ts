// Fine-tunes a small model on Moby-Dick, measures its loss before and after, and generates text with it.
// Run: node examples/fine-tune.ts [OUTPUT-FOLDER]
import {
  evaluate,
  finetune,
  generate,
  mobyDick,
  nanoModel,
  openModel,
  openRegistry,
  publishRun,
} from 'lora-swarm';

const output = process.argv[2] ?? 'moby-adapter';
const compute = { engine: 'onnx-cpu' };

// Ctrl-C aborts the signal. When the signal aborts, finetune() saves its state and throws the signal's reason.
const controller = new AbortController();
process.once('SIGINT', () => controller.abort(new Error('interrupted')));

// docs/training.md lists all settings. Every setting that is left out has a default.
const result = await finetune(
  {
    settings: {
      base: nanoModel(), // a folder, or a name on the Hugging Face hub such as 'ORG/NAME'
      data: { train: mobyDick(), heldOut: 0.05 },
      lora: { rank: 8 },
      training: { learningRate: 2e-3 },
      run: { steps: 40 },
    },
    output,
    force: true,
    compute,
    signal: controller.signal,
  },
  {
    onStep: ({ step, steps, loss }) => {
      if (step % 10 === 0) console.log(`step ${step} of ${steps}: loss ${loss.toFixed(3)}`);
    },
  },
);
console.log(`held-out loss: ${result.lossBefore?.toFixed(3)} before, ${result.lossAfter?.toFixed(3)} after`);

// A registry keeps the adapter as a version that never changes, bound to the digest of its base.
const registry = await openRegistry({ home: `${output}-registry` });
const { version } = await publishRun(registry, { output, result, name: 'moby' });
console.log(`version ${version.label} for the base ${version.manifest.base.digest.slice(0, 12)}`);
registry.close();

// The output is a PEFT folder. Open the model once, and then use it as often as you like.
const model = await openModel({ base: nanoModel(), adapter: output, compute });
const { perplexity } = await evaluate(model, { texts: ['Call me Ishmael.', 'There she blows!'] });
console.log(`perplexity of two sentences: ${perplexity.toFixed(0)}`);

process.stdout.write('The whale');
await generate(model, {
  prompt: 'The whale',
  maxTokens: 30,
  temperature: 0.7,
  seed: 1,
  onText: (piece) => process.stdout.write(piece),
});
console.log();
