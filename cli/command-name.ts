/** The command that starts this program: `npx swarm` in a checkout, which runs the .ts sources, and otherwise `swarm`. */
export const SWARM = import.meta.url.endsWith('.ts') ? 'npx swarm' : 'swarm';

/** Matches a command in advice, such as `swarm job list`: at the start, or after a quotation mark, a bracket or a colon. */
const COMMAND_IN_TEXT = /(^|["'`(]|: )swarm (?=[a-z])/g;

/** Rewrites each command in a piece of advice to start with SWARM. */
export function withCommandName(advice: string): string {
  return advice.replace(COMMAND_IN_TEXT, `$1${SWARM} `);
}
