/** Reads or packs the file that it is told, and prints what that took. */
import { join } from 'node:path';
import { packData } from '../../lora/data/pack-data.ts';
import { readExamples } from '../../lora/data/read-examples.ts';
import { RowReport } from '../../lora/data/row-report.ts';
import { dataSettingsSchema } from '../../lora/data/settings.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';

const [mode, path = ''] = process.argv.slice(2);
const started = performance.now();
let examples = 0;
if (mode === 'read') {
  for await (const _ of readExamples(path, { report: new RowReport() })) examples++;
} else {
  const modelDir = join(import.meta.dirname, '../../models/nano');
  const packed = await packData(
    {
      paths: [path],
      settings: dataSettingsSchema.parse({ template: 'plain' }),
      sequenceLength: 256,
      modelDir,
      cacheDir: join(path, '..', 'cache'),
      now: 0,
    },
    { tokenizer: await loadTokenizer(modelDir) },
  );
  examples = packed.tally.samples;
  packed.close();
}
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(JSON.stringify({ examples, peak, seconds: (performance.now() - started) / 1000 }));
