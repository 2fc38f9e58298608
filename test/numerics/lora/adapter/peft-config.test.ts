import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSwarmError } from '../../../../common/errors.ts';
import { planLayout } from '../../../../lora/adapter/layout.ts';
import { type LoraConfig, loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { encodePeftConfig, parsePeftConfig } from '../../../../lora/adapter/peft-config.ts';
import { adapterPlan, withoutUnmatched } from '../../../../lora/adapter/plan.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

const names = [
  'q_proj',
  'v_proj',
  'up_proj',
  'mlp.down_proj',
  '1.self_attn.k_proj',
  'lm_head',
  'embed_tokens',
];
const others = ['c_attn', 'mlp.c_proj', 'wte', 'h.0.mlp.c_fc'];
const anyName = fc.constantFrom(...names, ...others);
const pattern = fc.constantFrom(
  '.*proj',
  'layers.0.*',
  'q_proj|c_attn',
  '(?P<x>up|down)_proj',
  '.*1.*',
  'mlp.*',
);
const patterns = (value: fc.Arbitrary<number>) =>
  fc.array(fc.tuple(fc.oneof(anyName, pattern), value), { maxLength: 4 });

const settings: fc.Arbitrary<Partial<LoraConfig>> = fc.record(
  {
    rank: fc.integer({ min: 1, max: 9 }),
    alpha: fc.double({ min: 0.5, max: 64, noNaN: true }),
    targets: fc.oneof(fc.constant('all-linear'), pattern, fc.array(anyName, { minLength: 1, maxLength: 4 })),
    excludeModules: fc.oneof(pattern, fc.array(anyName, { maxLength: 2 })),
    layersToTransform: fc.array(fc.integer({ min: 0, max: 1 }), { maxLength: 2 }),
    rankPattern: patterns(fc.integer({ min: 1, max: 9 })),
    alphaPattern: patterns(fc.double({ min: 0.5, max: 64, noNaN: true })),
    useRslora: fc.boolean(),
    useDora: fc.boolean(),
    modulesToSave: fc.array(fc.constantFrom('norm', 'lm_head', 'layers.1.mlp', 'ln_f', 'h.1'), {
      maxLength: 2,
    }),
    bias: fc.constantFrom('none', 'all', 'lora_only'),
  },
  { requiredKeys: [] },
);

test.each(['llama-tiny-untied', 'families/qwen2-tied', 'families/gpt2'])(
  'reads the same settings that it wrote: %s',
  async (folder) => {
    const model = await openBase(join(FIXTURES, folder));
    let planned = 0;
    fc.assert(
      fc.property(settings, (some) => {
        let plan: ReturnType<typeof adapterPlan>;
        let lora: LoraConfig;
        try {
          lora = loraConfig(some);
          // PEFT also writes entries that match nothing, so reading must ignore them.
          plan = adapterPlan(model, withoutUnmatched(model, lora));
        } catch (error) {
          if (isSwarmError(error) && error.code.startsWith('LORA_')) return;
          throw error;
        }
        planned++;
        const layout = planLayout(plan, lora);
        const sorted = layout.map(({ name }) => name);
        expect(sorted).toEqual([...new Set(sorted)].sort());
        const text = encodePeftConfig({ lora, baseModelName: 'base', revision: null }, layout);
        const read = parsePeftConfig(JSON.parse(text), model);
        expect(adapterPlan(model, read.lora)).toEqual(plan);
        expect(read).toMatchObject({
          baseModelName: 'base',
          lora: { useDora: lora.useDora, bias: lora.bias },
        });
      }),
      { numRuns: 300 },
    );
    expect(planned).toBeGreaterThan(20);
  },
);
