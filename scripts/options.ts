/** The options of the scripts in this folder. A script exits with 2 if its options are wrong. */
import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';

const WRONG_USAGE = 2;

/**
 * Parses the options of a script with `parseArgs`. With --help, prints the comment at the top of the script, and ends
 * the process. Ends the process after a wrong option.
 * @param file path of the script
 */
export function scriptOptions<T extends ParseArgsConfig>(
  file: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    console.log(topComment(readFileSync(file, 'utf8')));
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code?.startsWith('ERR_PARSE_ARGS')) throw error;
    return wrongUsage(message);
  }
}

/** Prints the first sentence of a message, and ends the process. */
export function wrongUsage(message: string): never {
  console.error(`${message.split(/\.?\n|\. /)[0]}; --help shows the options`);
  process.exit(WRONG_USAGE);
}

/** Returns the value of an option that takes a whole number. Ends the process if the value is something else. */
export function wholeNumber(option: string, text: string, min = 1): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= min) return value;
  return wrongUsage(`--${option} takes a whole number from ${min} on, not "${text}"`);
}

/** Returns the text of the comment at the top of a source file, without its stars. */
export function topComment(source: string): string {
  const [, comment = ''] = /^\/\*\*(.*?)\*\//s.exec(source) ?? [];
  return comment.replaceAll(/^ ?\* ?/gm, '').trim();
}
