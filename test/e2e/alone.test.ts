/** Commands that need no swarm, as a user runs them: train, evaluate, generate, export a merged model. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTinyTraining } from '../utils/models/tiny-training.ts';

const SWARM = fileURLToPath(new URL('../../cli/swarm.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'swarm-alone-'));
const at = (name: string): string => join(folder, name);
let model = '';

function swarm(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SWARM, ...args], {
    encoding: 'utf8',
    cwd: folder,
    env: { ...process.env, SWARM_CACHE: at('cache') },
  });
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
  return { status, stdout, stderr, last: lines.length > 0 ? JSON.parse(lines.at(-1)!) : null };
}

beforeAll(async () => {
  model = await makeTinyTraining(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TRAIN = [
  '--data',
  'texts',
  '--sequence-length',
  '32',
  '--batch-size',
  '2',
  '--rank',
  '4',
  '--learning-rate',
  '1e-2',
];

describe('a single machine', { timeout: 120_000 }, () => {
  it('trains an adapter that lowers the loss, also merged, and does not overwrite it without --force', () => {
    const train = [
      'train',
      '--model',
      model,
      ...TRAIN,
      '--held-out',
      'held-out.jsonl',
      '--output',
      'adapter',
    ];
    const trained = swarm(...train, '--steps', '25', '--json');
    expect(trained.status, trained.stderr).toBe(0);
    expect(trained.last).toMatchObject({ event: 'trained', step: 25, adapter: at('adapter') });
    expect(trained.last.lossAfter).toBeLessThan(trained.last.lossBefore);
    for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
      expect(existsSync(at(join('adapter', file))), file).toBe(true);
    }

    const evaluate = ['evaluate', '--data', 'held-out.jsonl', '--json', '--model'];
    const base = swarm(...evaluate, model);
    expect(base.status, base.stderr).toBe(0);
    expect(base.last.perplexity).toBeCloseTo(Math.exp(base.last.loss), 6);
    expect(base.last.tokens).toBeGreaterThan(0);
    expect(base.last.bitsPerByte).toBeGreaterThan(0);
    const adapted = swarm(...evaluate, model, '--adapter', 'adapter').last;
    expect(adapted.loss).toBeLessThan(base.last.loss);
    expect(adapted.tokens).toBe(base.last.tokens);

    const several = swarm(...evaluate, model, '--adapter', 'adapter', '--against', 'base', 'adapter').last;
    expect(several.comparisons).toMatchObject([{ against: base.last.loss }, { change: 0, p: 1 }]);
    const table = ['evaluate', '--model', model, '--data', 'held-out.jsonl'];
    const lines = swarm(...table, '--against', 'base', '--against', 'adapter').stdout.split('\n');
    for (const name of ['base', 'adapter']) {
      expect(lines.filter((line) => line.startsWith(name))).toHaveLength(1);
    }

    const merged = swarm('checkpoint', 'export', 'adapter', 'merged', '--merge', '--model', model);
    expect(merged.status, merged.stderr).toBe(0);
    expect(swarm(...evaluate, 'merged').last.loss).toBeCloseTo(adapted.loss, 3);

    const gguf = ['checkpoint', 'export', 'adapter', 'gguf', '--gguf', 'f32', '--model', model];
    const exported = swarm(...gguf, '--merge', '--json');
    expect(exported.status, exported.stderr).toBe(0);
    expect(exported.last).toMatchObject({ merged: true, gguf: 'f32' });
    expect(existsSync(at('gguf/Modelfile'))).toBe(true);
    expect(swarm(...evaluate, 'gguf/model.gguf').last.loss).toBeCloseTo(adapted.loss, 3);
    expect(swarm(...gguf).status).toBe(6);
    expect(swarm(...gguf, '--force').status).toBe(0);
    expect(existsSync(at('gguf/adapter.gguf'))).toBe(true);

    expect(swarm(...train, '--steps', '1').status).toBe(6);
    expect(swarm('checkpoint', 'export', 'adapter', 'merged', '--merge', '--model', model).status).toBe(6);
    expect(swarm(...train, '--steps', '1', '--force').status).toBe(0);
  });

  it('evaluates tasks, compares an adapter with its base, and writes a report', async () => {
    const tasks = (name: string): string =>
      fileURLToPath(new URL(`../../examples/tasks/${name}`, import.meta.url));
    const trained = swarm('train', '--model', model, ...TRAIN, '--output', 'tuned', '--steps', '4', '--json');
    expect(trained.status, trained.stderr).toBe(0);
    await writeFile(at('train.log'), trained.stdout);
    const evaluate = ['evaluate', '--model', model, '--tasks', tasks('minimal-pairs.yaml'), '--limit', '6'];
    const compared = swarm(
      ...[
        ...evaluate,
        '--tasks',
        tasks('chapters.yaml'),
        '--adapter',
        'tuned',
        '--against',
        'base',
        '--json',
      ],
      ...['--report', 'report', '--training-log', 'train.log'],
    );
    expect(compared.status, compared.stderr).toBe(0);
    const two = swarm(...evaluate, '--against', 'base', 'adapter');
    expect([two.status, two.stderr]).toEqual([2, expect.stringContaining('base, adapter')]);
    expect(compared.last.results.minimal_pairs).toMatchObject({ alias: 'minimal_pairs', sample_len: 6 });
    expect(compared.last.comparison.metrics.map(({ metric }: { metric: string }) => metric)).toEqual([
      'acc',
      ...['word_perplexity', 'byte_perplexity', 'bits_per_byte'],
    ]);
    for (const file of compared.last.files) expect(existsSync(file), file).toBe(true);
    expect(compared.last.files).toHaveLength(8);
    const table = swarm(...evaluate);
    expect(table.stdout).toMatch(/minimal_pairs +0 +none +acc ↑ +[01]\.\d{4} {2}± 0\.\d{4}/);
    expect(swarm(...evaluate, '--data', 'held-out.jsonl').status).toBe(2);
    expect(swarm(...evaluate, '--record').status).toBe(2);
    expect(swarm('evaluate', '--model', model, '--tasks', 'missing.yaml').status).toBe(4);
  });

  it('generates the same text from the same seed', () => {
    const generate = [
      'generate',
      '--model',
      model,
      '--prompt',
      'the',
      '--max-tokens',
      '12',
      '--seed',
      '5',
      '--json',
    ];
    const first = swarm(...generate);
    expect(first.status, first.stderr).toBe(0);
    expect(first.last).toMatchObject({ schemaVersion: 1, prompt: 'the' });
    expect(first.last.tokens).toBeLessThanOrEqual(12);
    expect(swarm(...generate).last.text).toBe(first.last.text);
    const named = swarm(...generate, '--template', 'plain');
    expect([first.last.template, named.last.template]).toEqual([null, expect.stringContaining('plain')]);
    expect(swarm(...generate, '--template', 'plain', '--raw').status).toBe(2);
  });

  it('fails with an exit code and the name of what is missing', () => {
    const missing = swarm('evaluate', '--model', 'nowhere', '--data', 'held-out.jsonl');
    expect(missing.status).toBe(4);
    expect(missing.stderr).toMatch(/^lora-swarm: .*nowhere/);
    expect(swarm('evaluate', '--model', model, '--data', 'nothing.jsonl').status).toBe(4);
    expect(swarm('evaluate', '--model', model).status).toBe(2);
    const json = swarm(
      ...['train', '--model', model, '--data', 'nothing', '--output', 'x'],
      ...['--sequence-length', '16', '--json'],
    );
    expect(json.status).toBe(4);
    expect(json.last).toMatchObject({ event: 'error', error: { code: 'DATA_UNREADABLE', exitCode: 4 } });
  });
});
