import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Architecture } from '../../../../lora/models/architecture.ts';
import { type BaseBits, estimatedBaseBytes } from '../../../../lora/models/base/base-bits.ts';
import { FAMILIES, parseConfig } from '../../../../lora/models/families.ts';
import { weightFileBytes } from '../../../../lora/models/weights/prepare-weights.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

interface PublishedModel {
  /** Published number of parameters; a tied head counts once. */
  parameters: number;
  /** config.json on the hub. */
  published: Record<string, unknown>;
  /** The same config, loaded and saved by transformers 5 (scripts/reference/make_configs.py). */
  saved: Record<string, unknown>;
}

const models = JSON.parse(readFileSync(join(FIXTURES, 'published-configs.json'), 'utf8')) as Record<
  string,
  PublishedModel
>;

describe.each(Object.entries(models))('%s', (_, { parameters, published, saved }) => {
  test('has the published number of parameters', () => {
    const config = parseConfig(published);
    const architecture: Architecture = FAMILIES[config.family];
    const sizes = architecture.parameters(config).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(sizes.reduce((a, b) => a + b, 0)).toBe(parameters);
  });

  test('needs the estimated memory at 32 bits, and somewhat less at 8 and 4 bits', () => {
    const config = parseConfig(published);
    const model = { config, architecture: FAMILIES[config.family] };
    const ratio = (bits: BaseBits) => estimatedBaseBytes(parameters, bits) / weightFileBytes(model, bits);
    expect(ratio(32)).toBeCloseTo(1, 3);
    for (const bits of [8, 4] as const) expect(ratio(bits)).toBeGreaterThan(1);
    expect(ratio(8)).toBeLessThan(1.18);
    expect(ratio(4)).toBeLessThan(1.07);
  });

  test('parses equally in the layouts of transformers 4 and 5', () => {
    expect(saved).not.toEqual(published);
    expect(parseConfig(saved)).toEqual(parseConfig(published));
  });
});
