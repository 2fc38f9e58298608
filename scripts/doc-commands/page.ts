/** The commands in the code blocks of a page, with the output that the page shows. */

/** A command of a page. */
export interface DocCommand {
  /** Line of the command in the page, from 1. */
  readonly line: number;
  readonly command: string;
  /** Lines that the page shows as the output; empty if it shows none. */
  readonly output: readonly string[];
}

/** A file that the page shows. */
export interface DocFile {
  readonly line: number;
  readonly file: string;
  readonly content: string;
}

/**
 * Returns the commands and files of a page, in their order. A block whose commands begin with "$" also shows their output.
 * A block of the language `sh` has commands only. A file is a block of YAML whose first line is its name as a comment, or
 * the output of `cat FILE`.
 */
export function stepsOf(page: string): (DocCommand | DocFile)[] {
  const blocks = page.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return [...blocks].flatMap(({ 1: language, 2: text, index }) => {
    const first = page.slice(0, index).split('\n').length + 1;
    const lines = text!.trimEnd().split('\n');
    const name = language === 'yaml' && /^# (\S+\.yaml)$/.exec(lines[0]!)?.[1];
    if (name) return [{ line: first, file: name, content: text! }];
    const isSession = language === '' && lines[0]!.startsWith('$ ');
    if (!isSession && language !== 'sh') return [];
    return commandsOf(lines, first, isSession);
  });
}

function commandsOf(lines: readonly string[], first: number, isSession: boolean): (DocCommand | DocFile)[] {
  const steps: { line: number; command: string; output: string[] }[] = [];
  for (let i = 0; i < lines.length; i++) {
    const isCommand = isSession ? lines[i]!.startsWith('$ ') : lines[i] !== '';
    if (!isCommand) {
      steps.at(-1)?.output.push(lines[i]!);
      continue;
    }
    const line = first + i;
    let command = isSession ? lines[i]!.slice(2) : lines[i]!;
    while (command.endsWith('\\')) command = `${command.slice(0, -1).trimEnd()} ${lines[++i]!.trim()}`;
    steps.push({ line, command: command.replace(/ +# .*$/, ''), output: [] });
  }
  return steps.map((step) => {
    const file = /^cat (\S+)$/.exec(step.command)?.[1];
    return file === undefined
      ? step
      : { line: step.line, file, content: step.output.map((line) => `${line}\n`).join('') };
  });
}

/** Returns the words of a command, without the quotation marks around them. */
export function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|\S+/g)].map(
    ([word, double, single]) => double ?? single ?? word,
  );
}
