import { dataError } from '../errors.ts';
import { readText } from './file-bytes.ts';
import type { ContainerOptions } from './raw-rows.ts';

/** Maximum length of a document, in characters. The whole document is held in memory. */
const MAX_DOCUMENT = 64 * 1024 * 1024;

/** Reads a plain text file as one document. @throws the errors of readText; DATA_UNREADABLE if the file is too long */
export async function readPlainText(file: string, options: ContainerOptions): Promise<string> {
  const parts: string[] = [];
  let length = 0;
  for await (const part of readText(file, options)) {
    parts.push(part);
    length += part.length;
    if (length <= MAX_DOCUMENT) continue;
    throw dataError(
      'DATA_UNREADABLE',
      `${file} has more than ${MAX_DOCUMENT} characters, which is the limit for one text file`,
      { file, limit: MAX_DOCUMENT },
      { next: 'split it into several files' },
    );
  }
  return parts.join('');
}
