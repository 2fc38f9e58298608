/**
 * The chat template in an adapter's folder. An adapter that was trained with another template than that of its base works
 * only with this template, so the adapter carries it. PEFT ignores the file.
 */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Name of the file, which transformers gives to the template in a model folder. */
export const CHAT_TEMPLATE_FILE = 'chat_template.jinja';

/** Returns the path of the template in an adapter's folder; null if the adapter has none. */
export async function adapterTemplate(folder: string): Promise<string | null> {
  const path = join(folder, CHAT_TEMPLATE_FILE);
  const isFile = await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
  return isFile ? path : null;
}
