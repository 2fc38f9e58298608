/**
 * How the user starts this program: through npm in a checkout, whose sources are TypeScript; by its name when it is
 * installed.
 */
export const SWARM = import.meta.url.endsWith('.ts') ? 'npx swarm' : 'swarm';

/** Commands that advice names: `swarm job list` at its beginning or after a quotation mark, a bracket or a colon. */
const COMMAND_IN_TEXT = /(^|["'`(]|: )swarm (?=[a-z])/g;

/** Rewrites the commands in a piece of advice to how the user starts this program. */
export function withCommandName(advice: string): string {
  return advice.replace(COMMAND_IN_TEXT, `$1${SWARM} `);
}
