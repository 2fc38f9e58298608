import { brokenLine } from './print.ts';

/** Spaces before the further lines of a broken command. */
const CONTINUED = '  ';
/** Spaces before a command that stands on lines of its own in an advice. */
const COMMAND = '    ';
/** A command in quotes. It has spaces, unlike a quoted name. */
const QUOTED_COMMAND = /"([^" ]+ [^"]+)"/;

/**
 * Breaks a command that is wider than the terminal before each of its options. The lines end with "\", so that a shell
 * runs the copied lines as one command. On Windows, the command stays on one line, because the shells of Windows have
 * no common character that continues a line.
 * @param columns maximum length of a line; undefined for no limit
 */
export function wrappedCommand(command: string, columns: number | undefined): string[] {
  if (columns === undefined || command.length <= columns || process.platform === 'win32') return [command];
  const parts = command.split(/ (?=--)/);
  return parts.map((part, i) => `${i === 0 ? '' : CONTINUED}${part}${i === parts.length - 1 ? '' : ' \\'}`);
}

/**
 * Breaks an advice that is wider than the terminal at spaces. Each command in quotes gets lines of its own, without the
 * quotes, so that it can be copied.
 * @param indent number of spaces before each line
 * @param columns maximum length of a line
 */
export function wrappedAdvice(
  text: string,
  { indent, columns }: { indent: number; columns: number },
): string[] {
  const margin = ' '.repeat(indent);
  if (indent + text.length <= columns) return [`${margin}${text}`];
  const pieces = text.split(QUOTED_COMMAND);
  return pieces.flatMap((piece, i) => {
    if (i % 2 === 1) {
      const start = `${margin}${COMMAND}`;
      return wrappedCommand(piece, columns - start.length).map((line) => `${start}${line}`);
    }
    const prose = piece.trim();
    return prose === '' ? [] : brokenLine(`${margin}${prose}`, { columns, indent });
  });
}
