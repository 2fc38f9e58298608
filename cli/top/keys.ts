import { type Choice, type TopState, VIEWS, viewsOf } from './state.ts';

/** Number of lines by which Page Up and Page Down move the list. */
const PAGE_LINES = 10;

/** Number of lines by which each key moves the list. */
const MOVES: Readonly<Record<string, number>> = {
  '\u001b[A': -1,
  '\u001b[B': 1,
  '\u001b[5~': -PAGE_LINES,
  '\u001b[6~': PAGE_LINES,
};

/**
 * Splits the text that a terminal sends into keys. A text can contain several keys. A key can have several
 * characters.
 */
export function keysIn(text: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: keys such as the arrows begin with the control character ESC
  return text.match(/\u001b\[[\d;]*[~A-Za-z]|./gs) ?? [];
}

/**
 * Returns the user's choice after a key.
 * @returns `quit` if the key ends the program, and `choice` itself if the key has no meaning
 */
export function afterKey(key: string, choice: Choice, { facts }: Pick<TopState, 'facts'>): Choice | 'quit' {
  // In raw mode, Ctrl-C arrives as a character and causes no signal.
  if (key === 'q' || key === 'Q' || key === '\u0003') return 'quit';
  const view = VIEWS.find((name) => name.startsWith(key.toLowerCase()));
  if (view !== undefined && viewsOf(facts.role).includes(view)) return { ...choice, view, scroll: 0 };
  const move = MOVES[key];
  if (move !== undefined) return { ...choice, scroll: Math.max(0, choice.scroll + move) };
  if ((key === 'j' || key === '\t') && facts.role === 'coordinator') {
    const { jobs } = facts.status;
    const at = jobs.findIndex(({ job }) => job === (choice.job ?? facts.job?.job));
    const next = jobs[(at + 1) % jobs.length];
    return next === undefined ? choice : { ...choice, job: next.job, scroll: 0 };
  }
  return choice;
}
