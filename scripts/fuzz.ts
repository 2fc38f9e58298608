/**
 * Feeds changed and random bytes to the decoders that a stranger can reach.
 *
 *   npm run fuzz [-- --decoder NAME…] [--inputs 1000000] [--seed N] [--list] [--corpus FILE]
 *
 * Prints one line per decoder, and each input that a decoder treats wrongly. Exits with 1 after a finding. With --corpus,
 * adds these inputs and the shortest refused input of each error code to a file. The tests repeat the inputs of
 * test/fixtures/fuzz-corpus.json.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { decoders } from './fuzz/decoders.ts';
import { fuzzDecoder } from './fuzz/fuzz-decoder.ts';
import { scriptOptions, wholeNumber, wrongUsage } from './options.ts';

const { values } = scriptOptions(import.meta.filename, {
  options: {
    decoder: { type: 'string', multiple: true },
    inputs: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    corpus: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});
const chosen = decoders.filter(({ name }) => values.decoder?.includes(name) ?? true);
const unknown = values.decoder?.find((name) => !decoders.some((decoder) => decoder.name === name));
if (unknown !== undefined) wrongUsage(`no decoder is called "${unknown}"; --list lists all decoders`);
const seed = wholeNumber('seed', values.seed, 0);
const inputs = wholeNumber('inputs', values.inputs);
if (values.list) {
  for (const { name } of decoders) console.log(name);
  process.exit(0);
}

/** Maximum length of a refused input in the corpus, in hexadecimal characters. */
const CORPUS_CHARACTERS = 800;
/** Inputs in hexadecimal, by the name of their decoder. */
const corpus: Record<string, string[]> =
  values.corpus === undefined ? {} : JSON.parse(readFileSync(values.corpus, 'utf8'));

let found = 0;
for (const decoder of chosen) {
  const start = performance.now();
  const result = fuzzDecoder(decoder, { seed, inputs });
  const seconds = (performance.now() - start) / 1000;
  const codes = Object.entries(result.refused)
    .map(([code, count]) => `${code} ${count}`)
    .join(', ');
  console.log(
    `${decoder.name}: ${result.inputs} inputs in ${seconds.toFixed(1)} s; accepted ${result.accepted}; ${codes}`,
  );
  for (const { what, input } of result.findings) console.log(`  FINDING: ${what}\n  input: ${input}`);
  found += result.findings.length;
  const kept = [
    ...(corpus[decoder.name] ?? []),
    ...Object.values(result.shortest).filter(({ length }) => length <= CORPUS_CHARACTERS),
    ...result.findings.map(({ input }) => input),
  ];
  corpus[decoder.name] = [...new Set(kept)];
}
if (values.corpus !== undefined) writeFileSync(values.corpus, `${JSON.stringify(corpus, null, 2)}\n`);
console.log(`${chosen.length} decoders, seed ${seed}: ${found} findings`);
process.exitCode = found > 0 ? 1 : 0;
