/** A plain text file: one document. */

import { dataError } from '../errors.ts';
import { readText } from './file-bytes.ts';
import type { ContainerOptions } from './raw-rows.ts';

/** A document is held in memory whole; characters. Longer texts belong in several files. */
const MAX_DOCUMENT = 64 * 1024 * 1024;

/** @throws DATA_UNREADABLE when it is too long, as readText */
export async function readPlainText(file: string, options: ContainerOptions): Promise<string> {
  const parts: string[] = [];
  let length = 0;
  for await (const part of readText(file, options)) {
    parts.push(part);
    length += part.length;
    if (length <= MAX_DOCUMENT) continue;
    throw dataError(
      'DATA_UNREADABLE',
      `${file} has more than the ${MAX_DOCUMENT} characters of one document; split it`,
      { file, limit: MAX_DOCUMENT },
    );
  }
  return parts.join('');
}
