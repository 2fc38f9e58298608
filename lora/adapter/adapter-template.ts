/**
 * The chat template in an adapter's folder. If an adapter was trained with a template that differs from its
 * base's template, the adapter works only with its own template. Its folder therefore contains the template.
 * PEFT ignores the file.
 */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Name of the template's file, as in a model folder of transformers. */
export const CHAT_TEMPLATE_FILE = 'chat_template.jinja';

/** Returns the path of the chat template in an adapter's folder; null if the folder has none. */
export async function adapterTemplate(folder: string): Promise<string | null> {
  const path = join(folder, CHAT_TEMPLATE_FILE);
  const isFile = await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
  return isFile ? path : null;
}
