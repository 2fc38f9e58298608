import { join } from 'node:path';
import { expect, test } from 'vitest';
import { initialMatrices } from '../../../../lora/adapter/initial.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { type LoraConfig, loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { writePeftFolder } from '../../../../lora/adapter/peft.ts';
import { readStart } from '../../../../lora/adapter/start.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { FIXTURES } from '../../../utils/models/reference.ts';

test.each<[Partial<LoraConfig>, object[]]>([
  [{ useRslora: true }, [{ setting: 'useRslora', adapter: 'false', run: 'true' }]],
  [
    { useDora: true, targets: ['v_proj'], dropout: 0.1 },
    [
      { setting: 'targets', adapter: '["q_proj","v_proj"]', run: '["v_proj"]' },
      { setting: 'useDora', adapter: 'false', run: 'true' },
    ],
  ],
])('refuses a run with %j, and names each difference', async (changes, differences) => {
  const model = await openBase(join(FIXTURES, 'llama-tiny-untied'));
  const lora = loraConfig({ rank: 3, alpha: 6, targets: ['q_proj', 'v_proj'] });
  const layout = adapterLayout(model, lora);
  const folder = join(await temporaryFolder(), 'adapter');
  const about = { baseModelName: 'base', revision: null, baseDigest: 'cd'.repeat(32) };
  await writePeftFolder(folder, { layout, lora, tensors: initialMatrices(layout, 5), ...about });
  await expect(readStart({ folder }, model, { ...lora, ...changes })).rejects.toMatchObject({
    code: 'ADAPTER_START',
    values: { folder, differences },
  });
});
