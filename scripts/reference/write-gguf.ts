/**
 * Writes GGUF files and expected tokens for check_gguf.py, which compares llama.cpp with this program. Usage:
 * node scripts/reference/write-gguf.ts FOLDER
 *
 * For each model of the fixtures, it writes `base.gguf`, `merged.gguf` and `adapter.gguf`, and
 * `expected.json` with the tokens that this program generates. For each other `X.gguf` that is in FOLDER
 * already, it writes `X.json` with such tokens.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { type ExportGgufOptions, exportGguf } from '../../lora/adapter/export-gguf.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';
import type { AddedToken } from '../../lora/data/tokenizing/added-tokens.ts';
import { adapterFeeds, type ModelBundle, openModel } from '../../lora/evaluate/model-bundle.ts';
import { generate } from '../../lora/generate/generate.ts';
import { Graph } from '../../lora/graph/graph.ts';
import { llama } from '../../lora/models/families/llama.ts';
import { configMetadata } from '../../lora/models/gguf/config-metadata.ts';
import { openGgufBase } from '../../lora/models/gguf/gguf-base.ts';
import { mergesOfScores } from '../../lora/models/gguf/sentence-piece.ts';
import { sequenceFeeds, sequenceInputs } from '../../lora/models/sequences.ts';
import { type TensorToWrite, writeSafetensors } from '../../lora/models/weights/safetensors-writer.ts';
import { adaptedParameters } from '../../lora/train/adapted-model.ts';
import { copyForGguf } from '../../test/utils/models/gguf.ts';

/** Prompts to try. The first one after which the model generates ENOUGH tokens is used. */
const PROMPTS = ['ab', 'cde', 'xyz', 'qu'];
const ENOUGH = 4;
const MAX_TOKENS = 24;
const root = join(import.meta.dirname, '..', '..');
const out = process.argv[2]!;
const fixtures = join(root, 'test', 'fixtures');
const cacheDir = join(out, 'cache');

interface Generation {
  prompt: number[];
  ids: number[];
  /** Number of generated tokens that llama.cpp must agree with. */
  compared: number;
  logProbabilities: number[];
}

async function generated(base: string, prompt: string, adapter?: string): Promise<Generation> {
  const bundle = await openModel({ base, adapter, cacheDir, compute: { engine: 'onnx-cpu', threads: 1 } });
  const { tokenizer, model } = bundle;
  const { ids } = await generate(bundle, { prompt, maxTokens: MAX_TOKENS });
  const context = [...tokenizer.prefix, ...tokenizer.encode(prompt, { special: false })];
  const metadata = configMetadata(model.config);
  const length = [...metadata].find(([key]) => key.endsWith('.context_length'))![1].value as number;
  const compared = Math.min(ids.length, length - context.length);
  return {
    prompt: context,
    ids,
    compared,
    logProbabilities: await logProbabilities(bundle, context, ids.slice(0, compared)),
  };
}

/** Returns the natural logarithm of the probability of each generated token. */
async function logProbabilities(bundle: ModelBundle, context: number[], ids: number[]): Promise<number[]> {
  const { model, engine, weights, adapter } = bundle;
  const { architecture, config } = model;
  const all = [...context, ...ids];
  const graph = new Graph();
  const source = adaptedParameters(graph, model, adapter?.lora ?? null);
  const inputs = sequenceInputs(graph, 1, all.length);
  graph.output('logits', architecture.forward(graph, config, inputs, source));
  const executable = await engine.compile(graph, weights);
  const feeds = sequenceFeeds([{ ids: all, segments: all.map(() => 1) }], all.length);
  const { logits } = await executable.run({ ...feeds, ...Object.fromEntries(adapterFeeds(bundle)) });
  await executable.dispose();
  const rows = config.vocabularySize;
  return ids.map((id, i) => {
    const at = (context.length + i - 1) * rows;
    const row = logits!.subarray(at, at + rows);
    const most = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    return row[id]! - most - Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0));
  });
}

async function longEnough(base: string, adapter?: string): Promise<Generation> {
  for (const prompt of PROMPTS) {
    const result = await generated(base, prompt, adapter);
    if (result.ids.length >= ENOUGH) return result;
  }
  throw new Error(`${base} generates nothing`);
}

async function exported(options: Partial<ExportGgufOptions> & { base: string }, to: string): Promise<void> {
  const output = join(out, 'export');
  await rm(output, { recursive: true, force: true });
  const { file } = await exportGguf({ type: 'f32', cacheDir, onWarning: console.log, ...options, output });
  await mkdir(join(to, '..'), { recursive: true });
  await rename(file, to);
}

/** @param rope rotary positions (`rope_parameters` of config.json) to use instead of the model's */
async function writeFamily(source: string, adapter = join(source, 'adapter'), rope?: Json): Promise<void> {
  const variant = rope?.rope_type ?? basename(adapter);
  const name = `${basename(source)}${variant === 'adapter' ? '' : `-${variant}`}`;
  const base = await copyForGguf(source, join(out, name, 'model'), rope);
  await exported({ base }, join(out, name, 'base.gguf'));
  await exported({ base, adapter }, join(out, name, 'merged.gguf'));
  await exported({ base, adapter, merge: false }, join(out, name, 'adapter.gguf'));
  const expected = { base: await longEnough(base), merged: await longEnough(base, adapter) };
  // The exported file, read again, must be the same model.
  const again = await longEnough(join(out, name, 'base.gguf'));
  const { ids, compared } = expected.base;
  if (again.ids.slice(0, compared).join() !== ids.slice(0, compared).join()) {
    console.log(`${name}: the imported model generates`, again);
    process.exitCode = 1;
  }
  await writeFile(join(out, name, 'expected.json'), JSON.stringify(expected));
  console.log(name, expected.merged.ids.join());
}

/**
 * Writes a tiny model with the tokenizer of a fixture, and the tokens that lora-swarm computes for `texts`. The fixture
 * of a tokenizer with byte fallback has only one merge for each token. In this case, the written tokenizer gets all
 * merges that SentencePiece would make.
 */
async function writeTokens(name: string, texts: readonly string[]): Promise<void> {
  const { tokenizer, config } = await readFixture<{ tokenizer?: Json; config: Json }>(name);
  if (tokenizer === undefined) return;
  const model = tokenizer.model as {
    byte_fallback: boolean;
    vocab: Record<string, number>;
    merges: string[][];
  };
  const added = tokenizer.added_tokens as { id: number }[];
  const configured = Object.keys(config.added_tokens_decoder ?? {}).map(Number);
  const rows = Math.max(...Object.values(model.vocab), ...added.map(({ id }) => id), ...configured) + 1;
  if (model.byte_fallback) {
    const ranks = new Map(model.merges.map((pair, rank) => [pair.join(''), rank]));
    const tokens = new Array(rows).fill(null);
    for (const [text, id] of Object.entries(model.vocab)) {
      // In Gemma's model, all runs of spaces, tabs or line ends have the same score.
      const score = name === 'gemma' && /^(▁+|\n+|\t+)$/.test(text) ? 0 : -1 - (ranks.get(text) ?? 0);
      if (!/^<(0x..|unk|s|\/s)>$/.test(text)) tokens[id] = { text, score };
    }
    model.merges = mergesOfScores(tokens, (what) => new Error(what));
  }
  const dir = join(out, 'tokenizers', name);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config));
  await writeModel(dir, rows);
  const file = join(out, 'tokenizers', `${name}.gguf`);
  try {
    await exported({ base: dir }, file);
  } catch (error) {
    console.log(`${name}: ${(error as Error).message.slice(0, 150)}`);
    return;
  }
  const compared = texts.filter((text) => !isKnown(text, tokenizer, config));
  const ids = await encodeAll(dir, compared);
  const again = await encodeAll(await openGgufBase({ path: file, cacheDir }), compared);
  const differing = compared.filter((_, i) => JSON.stringify(again[i]) !== JSON.stringify(ids[i]));
  if (differing.length > 0) {
    console.log(`${name}: the imported tokenizer differs at ${JSON.stringify(differing[0])}`);
    process.exitCode = 1;
  }
  const omitted = texts.length - compared.length;
  await writeFile(join(out, 'tokenizers', `${name}.json`), JSON.stringify({ texts: compared, ids, omitted }));
}

/** Returns whether llama.cpp is known to split a text into other tokens than lora-swarm (see docs/gguf.md). */
function isKnown(text: string, tokenizer: Json, config: Json): boolean {
  const { normalizer, pre_tokenizer: pre } = tokenizer as Record<string, { type?: string } | null>;
  const added = [
    tokenizer.added_tokens,
    Object.values(config.added_tokens_decoder ?? {}),
  ].flat() as AddedToken[];
  const flagged = added.filter(
    (token) => token.lstrip || token.rstrip || token.single_word || token.normalized,
  );
  if (flagged.some(({ content }) => text.includes(content))) return true;
  if (normalizer?.type === 'NFC' && text.normalize('NFC') !== text) return true;
  if (pre?.type === 'Metaspace')
    return /^[ ▁]/.test(text) || added.some(({ content }) => text.includes(content));
  // llama.cpp also splits a text differently if the text has an added token that contains `▁`.
  return added.some(({ content }) => content.includes('▁') && text.includes(content));
}

async function encodeAll(dir: string, texts: readonly string[]): Promise<number[][]> {
  const tokenizer = await loadTokenizer(dir);
  return texts.map((text) => tokenizer.encode(text, { special: false }));
}

/** Writes a Llama with one layer and a vocabulary of `rows` tokens. All its weights are zero. */
async function writeModel(dir: string, rows: number): Promise<void> {
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: rows,
    hidden_size: 32,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    tie_word_embeddings: true,
  };
  await writeFile(join(dir, 'config.json'), JSON.stringify(config));
  const parameters = llama.parameters(llama.parseConfig(config));
  const tensors = parameters.map(({ name, shape }): TensorToWrite => {
    const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
    return { name, dtype: 'F32', shape, data };
  });
  await writeSafetensors(join(dir, 'model.safetensors'), tensors);
}

async function readFixture<T>(name: string): Promise<T> {
  const bytes = await readFile(join(fixtures, 'tokenizers', `${name}.json.gz`));
  return JSON.parse(gunzipSync(bytes).toString());
}

type Json = Record<string, unknown>;

const families = await readdir(join(fixtures, 'families'));
const given = (await readdir(out)).filter((name) => name.endsWith('.gguf'));
for (const name of families) await writeFamily(join(fixtures, 'families', name));
for (const name of ['llama-tiny-tied', 'llama-tiny-untied']) await writeFamily(join(fixtures, name));
// The adapter `patterns` has ranks and alphas that differ between modules, and rsLoRA.
await writeFamily(join(fixtures, 'llama-tiny-untied'), join(fixtures, 'adapters', 'patterns'));
for (const [family, rope] of [
  ['qwen2-tied', { rope_type: 'linear', factor: 3, rope_theta: 1000 }],
  ['llama-biases', { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16, rope_theta: 1000 }],
] as const)
  await writeFamily(join(fixtures, 'families', family), undefined, rope);

const nano = join(root, 'models', 'nano');
for (const type of ['f32', 'f16', 'bf16', 'q8_0'] as const) {
  const file = join(out, `nano-${type}.gguf`);
  await exported({ base: nano, type }, file);
  if ((await stat(file)).isFile()) given.push(basename(file));
}
for (const name of given) {
  const result = await generated(join(out, name), 'It was');
  await writeFile(join(out, name.replace(/gguf$/, 'json')), JSON.stringify(result));
  console.log(name, result.ids.join());
}
console.log('nano', (await generated(nano, 'It was')).ids.join());

const texts = await readFixture<string[]>('strings');
for (const file of await readdir(join(fixtures, 'tokenizers'))) {
  const name = file.replace('.json.gz', '');
  if (name !== 'strings') await writeTokens(name, texts);
}
