import { describe, expect, it } from 'vitest';
import { manifestSchema } from '../../../../protocol/job/manifest.ts';
import {
  ADAPTER_BYTES,
  BASE_PARAMETERS,
  DATA_ROWS,
  DATA_SHARD_BYTES,
  SEQUENCE_TOKENS,
} from '../../../../protocol/limits.ts';

const digest = 'ab'.repeat(32);

function problems(
  paths: readonly string[],
  shardBytes = 1,
  { parameters = 1, adapter = 1, rows = 1, sequenceLength = 8 } = {},
): string[] {
  const files = paths.map((path) => ({ path, size: 1, digest }));
  const manifest = {
    version: 1,
    name: 'tale',
    base: { name: 'nano', digest, parameters, files },
    data: {
      rows,
      tokens: 1,
      sequenceLength,
      shards: [{ digest, size: shardBytes, rows: 1 }],
      heldOut: { digest, rows: 1, tokens: 1 },
    },
    lora: {},
    adapter: { parameters: adapter, initial: { digest, size: 4 } },
    training: {},
    rounds: {},
    acceptance: {},
    seed: 0,
    createdAt: 0,
  };
  return manifestSchema.safeParse(manifest).error?.issues.map(({ path }) => path.join('.')) ?? [];
}

describe('base files', () => {
  it('have plain file names', () => {
    expect(problems(['config.json', 'model-00001-of-00002.safetensors'])).toEqual([]);
    for (const path of [
      '../config.json',
      '/etc/passwd',
      'a/b',
      'a\\b',
      '.bashrc',
      'c:config.json',
      'config.json\0',
      'config\n.json',
      '\u0441onfig.json',
      '',
      'a'.repeat(129),
    ]) {
      expect(problems([path]), JSON.stringify(path)).toEqual(['base.files.0.path']);
    }
  });

  it('have distinct names, also on file systems that ignore case', () => {
    expect(problems(['config.json', 'config.json'])).toEqual(['base.files']);
    expect(problems(['config.json', 'Config.JSON'])).toEqual(['base.files']);
  });
});

it('bounds the size of a data shard, which nodes decode whole', () => {
  expect(problems(['config.json'], DATA_SHARD_BYTES)).toEqual([]);
  expect(problems(['config.json'], DATA_SHARD_BYTES + 1)).toEqual(['data.shards.0.size']);
  expect(problems(['config.json'], 0)).toEqual(['data.shards.0.size']);
});

it('bounds every number from which a node computes the disk space and memory of a job', () => {
  const largest = {
    parameters: BASE_PARAMETERS,
    adapter: ADAPTER_BYTES / 4,
    rows: DATA_ROWS,
    sequenceLength: SEQUENCE_TOKENS,
  };
  const paths = {
    parameters: 'base.parameters',
    adapter: 'adapter.parameters',
    rows: 'data.rows',
    sequenceLength: 'data.sequenceLength',
  };
  expect(problems(['config.json'], 1, largest)).toEqual([]);
  for (const [name, path] of Object.entries(paths)) {
    const larger = { ...largest, [name]: largest[name as keyof typeof largest] + 1 };
    expect(problems(['config.json'], 1, larger)).toEqual([path]);
  }
});
