import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { sentJob, startedJob } from '../../../../coordinator/jobs/job-start.ts';
import { adapterLayout } from '../../../../lora/adapter/layout.ts';
import { loraConfig } from '../../../../lora/adapter/lora-config.ts';
import { writePeftFolder } from '../../../../lora/adapter/peft.ts';
import { parseJobSpec } from '../../../../lora/finetune/settings/job-spec.ts';
import { openBase } from '../../../../lora/models/base/base-model.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { makeTinyModel } from '../../../utils/models/tiny-model.ts';

it('a job takes the chat template of the adapter that it starts from, unless the job sets another', async () => {
  const folder = await temporaryFolder();
  const base = await makeTinyModel(join(folder, 'model'));
  const start = join(folder, 'adapter');
  const lora = loraConfig({ rank: 2, alpha: 3, targets: ['q_proj'] });
  const layout = adapterLayout(await openBase(base), lora);
  const tensors = layout.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b)));
  await writePeftFolder(start, { layout, tensors, lora, baseModelName: 'model' });
  const template = join(start, 'chat_template.jinja');
  await writeFile(template, '{{ messages }}');
  for (const [set, used] of [
    [undefined, template],
    ['plain', 'plain'],
  ] as const) {
    const written = { name: 'talk', base, start, data: { train: '/talk.jsonl', template: set } };
    const options = { signal: new AbortController().signal, cacheDir: join(folder, 'cache') };
    const { spec } = await startedJob(written, parseJobSpec(written), options);
    expect(spec).toMatchObject({ lora: { rank: 2, alpha: 3 }, data: { template: used } });
    // The web page sends a job without the LoRA settings, which come from the adapter in `start`.
    const sent = await sentJob(written);
    expect(sent).toMatchObject({ start, lora: { rank: 2, alpha: 3 }, data: { template: used } });
  }
});
