/** Reads or packs the given file, and prints the time and memory that this took as JSON. */
import { join } from 'node:path';
import { packFiles } from '../../lora/data/pack-files.ts';
import { readExamples } from '../../lora/data/read-examples.ts';
import { RowReport } from '../../lora/data/row-report.ts';
import { dataSettingsSchema } from '../../lora/data/settings.ts';
import { loadTokenizer } from '../../lora/data/tokenizer.ts';

const [mode, path = ''] = process.argv.slice(2);
const started = performance.now();
let examples = 0;
let inUse: number | null = null;
if (mode === 'read') {
  for await (const _ of readExamples(path, { report: new RowReport() })) examples++;
} else {
  const modelDir = join(import.meta.dirname, '../../models/nano');
  const packed = await packFiles(
    {
      paths: [path],
      settings: dataSettingsSchema.parse({ template: 'plain' }),
      sequenceLength: 256,
      modelDir,
      cacheDir: join(path, '..', 'cache'),
      now: 0,
      onProgress: (done, total) => {
        if (inUse !== null || done < 0.9 * total) return;
        globalThis.gc?.();
        const { heapUsed, external } = process.memoryUsage();
        inUse = Math.round((heapUsed + external) / 2 ** 20);
      },
    },
    { tokenizer: await loadTokenizer(modelDir) },
  );
  examples = packed.tally.samples;
  packed.close();
}
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(
  JSON.stringify({ examples, peak, inUse, seconds: (performance.now() - started) / 1000 }),
);
