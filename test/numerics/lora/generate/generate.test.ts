import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { ModelBundle } from '../../../../lora/evaluate/model-bundle.ts';
import { generate } from '../../../../lora/generate/generate.ts';
import { Graph } from '../../../../lora/graph/graph.ts';
import { sequenceFeeds, sequenceInputs } from '../../../../lora/models/sequences.ts';
import { adaptedParameters } from '../../../../lora/train/adapted-model.ts';
import { tinyDeps } from '../../../utils/models/tiny-trainer.ts';

let dir: string;
let bundle: ModelBundle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'generate-'));
  bundle = { ...(await tinyDeps(dir)), adapter: null };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('generating text', () => {
  it.each([{ temperature: 'hot' }, { topP: -1 }, { maxTokens: 1.5 }, { prompt: undefined }])(
    'refuses %j',
    async (change) => {
      const run = generate(bundle, { prompt: 'it was', ...(change as object) });
      await expect(run).rejects.toMatchObject({ code: 'USAGE', values: { field: Object.keys(change)[0] } });
    },
  );

  it('chooses the most likely token at temperature 0', async () => {
    const once = await generate(bundle, { prompt: 'it was', maxTokens: 12 });
    const again = await generate(bundle, { prompt: 'it was', maxTokens: 12, seed: 9 });
    expect(again).toEqual(once);
    expect(once.ids.length).toBeGreaterThan(0);
    // The first token does not depend on the number of tokens that follow, because no position sees later positions.
    const short = await generate(bundle, { prompt: 'it was', maxTokens: 1 });
    expect(short.ids).toEqual(once.ids.slice(0, 1));
  });

  it('equals the full model, for graphs of any length', async () => {
    const { model, engine, weights, tokenizer } = bundle;
    const { maxPositions: length, vocabularySize } = model.config;
    const graph = new Graph();
    const inputs = sequenceInputs(graph, 1, length);
    graph.output(
      'logits',
      model.architecture.forward(graph, model.config, inputs, adaptedParameters(graph, model, null)),
    );
    const whole = await engine.compile(graph, weights);
    onTestFinished(() => whole.dispose());
    const context = [...tokenizer.prefix, ...tokenizer.encode('it was', { special: false })];
    const prompt = context.length;
    while (context.length < length) {
      const rest = new Array<number>(length - context.length).fill(0);
      const row = { ids: [...context, ...rest], segments: [...context.map(() => 1), ...rest] };
      const { logits } = await whole.run(sequenceFeeds([row], length));
      const last = logits!.subarray((context.length - 1) * vocabularySize, context.length * vocabularySize);
      const id = last.indexOf(Math.max(...last));
      if (id === tokenizer.eosId) break;
      context.push(id);
    }
    const maxTokens = context.length - prompt;
    expect(maxTokens).toBeGreaterThan(10);
    expect((await generate(bundle, { prompt: 'it was', maxTokens })).ids).toEqual(context.slice(prompt));
  });

  it('gives the same text on an engine without a cache', async () => {
    const { compileDynamic: _, ...engine } = bundle.engine;
    const options = { prompt: 'it was', maxTokens: 20, temperature: 1, seed: 5 };
    expect(await generate({ ...bundle, engine }, options)).toEqual(await generate(bundle, options));
  });

  it('gives equal texts for equal seeds only', async () => {
    const draw = (seed: number) =>
      generate(bundle, { prompt: 'it was', maxTokens: 20, temperature: 1, seed });
    const [first, same, other] = [await draw(1), await draw(1), await draw(2)];
    expect(same).toEqual(first);
    expect(other.ids).not.toEqual(first.ids);
  });

  it('continues past the context, and reports the text in pieces', async () => {
    let told = '';
    const long = await generate(bundle, {
      prompt: '',
      maxTokens: 2 * bundle.model.config.maxPositions,
      temperature: 1,
      seed: 3,
      onText: (piece) => {
        told += piece;
      },
    });
    if (long.reason === 'length') expect(long.ids.length).toBe(2 * bundle.model.config.maxPositions);
    expect(told).toBe(long.text);
  });

  it('stops when aborted', async () => {
    const aborted = generate(bundle, { prompt: '', maxTokens: 5, signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  });
});
