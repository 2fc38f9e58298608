import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import { CARD_FILE } from './card.ts';

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
