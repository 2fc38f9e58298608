import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { messageOf } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import { CARD_FILE } from './card.ts';

/** Maximum size of a model card that is read, in bytes. */
const CARD_BYTES = 2 ** 20;
/** The losses of the training that a card has, as `frontMatter` writes them, each with its name as a claim of the card. */
const CLAIMS: ReadonlyMap<string, string> = new Map([
  ['heldOutLoss', 'claimedHeldOutLoss'],
  ['heldOutLossBefore', 'claimedHeldOutLossBefore'],
]);
const frontSchema = z.object({
  tags: z.array(z.string()).refine((tags) => tags.includes('lora-swarm')),
  'model-index': z.array(
    z.object({
      results: z.array(z.object({ metrics: z.array(z.object({ name: z.string(), value: z.number() })) })),
    }),
  ),
});

/**
 * Returns the losses of the training in the model card of a folder; none if the folder has no card that lora-swarm wrote.
 * Their names say that the card claims them (`claimedHeldOutLoss`), because anyone can write or change a card.
 */
export async function cardMetrics(folder: string): Promise<Record<string, number>> {
  const path = join(folder, CARD_FILE);
  const size = await stat(path).then(
    (entry) => (entry.isFile() ? entry.size : null),
    () => null,
  );
  if (size === null || size > CARD_BYTES) return {};
  let value: unknown;
  try {
    const [, front] = /^---\n(.*?)\n---\n/s.exec(await readFile(path, 'utf8')) ?? [];
    value = parse(front ?? '');
  } catch {
    // The card of another program need not be YAML, and the adapter can be added without a card that cannot be read.
    return {};
  }
  const { success, data } = frontSchema.safeParse(value);
  if (!success) return {};
  const all = data['model-index'].flatMap(({ results }) => results.flatMap(({ metrics }) => metrics));
  // If a name occurs again, its first value counts.
  const losses = all.toReversed().flatMap(({ name, value }) => {
    const claim = CLAIMS.get(name);
    return claim === undefined ? [] : [[claim, value] as const];
  });
  return Object.fromEntries(losses);
}

/**
 * Writes the model card of an exported model. A README.md that lora-swarm did not write is kept. A failure is only a
 * warning, because the export, which can take hours, is complete without the card.
 */
export async function writeCard(
  output: string,
  card: string,
  onWarning: (text: string) => void = () => {},
): Promise<void> {
  const path = join(output, CARD_FILE);
  try {
    if (await isForeign(path)) onWarning(`no model card was written, because ${path} is another file`);
    else await writeDurably(path, card);
  } catch (error) {
    onWarning(`the model card ${path} could not be written: ${messageOf(error)}`);
  }
}

/** Returns whether a file exists and lacks the tag `lora-swarm`, which is in the front matter of each model card. */
async function isForeign(path: string): Promise<boolean> {
  return existsSync(path) && !/^ *- lora-swarm$/m.test(await readFile(path, 'utf8'));
}
