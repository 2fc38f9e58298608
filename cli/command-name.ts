/** Whether the shell finds this program through npx only: in a checkout, which runs the .ts sources, or after npx started it. */
const NEEDS_NPX = import.meta.url.endsWith('.ts') || process.env.npm_command === 'exec';

/** The command that starts this program. */
export const SWARM = NEEDS_NPX ? 'npx lora-swarm' : 'lora-swarm';

/**
 * Matches a command in a text, such as `lora-swarm job list`: at the start, or after a quotation mark, a bracket or a
 * colon.
 */
const COMMAND_IN_TEXT = /(^|["'`(]|: )lora-swarm (?=[a-z])/g;

/** Matches a command in double quotation marks. */
const QUOTED_COMMAND = /"lora-swarm ([^"]+)"/g;

/**
 * Makes the quoted commands in a text from a node ready to be copied: they start with SWARM and name the home of the node.
 * @param homeFlag the result of `homeFlag` (see views/thanks.ts) for the node
 */
export function withHome(text: string, homeFlag: string): string {
  return text.replace(QUOTED_COMMAND, (_, words: string) => `"${SWARM} ${words}${homeFlag}"`);
}

/** Rewrites each command in a piece of advice to start with SWARM. */
export function withCommandName(advice: string): string {
  return advice.replace(COMMAND_IN_TEXT, `$1${SWARM} `);
}
