/** Writes docs/cli.md from the commands themselves: `node scripts/cli-docs.ts`. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { createProgram } from '../cli/program.ts';
import { fakeContext } from '../test/utils/cli-context.ts';

export const cliPage = fileURLToPath(new URL('../docs/cli.md', import.meta.url));

const INTRODUCTION = `# Commands

This page is made from the commands themselves by \`node scripts/cli-docs.ts\`; a test keeps it true. In a checkout run
them as \`npx swarm …\`, which brings its own Node.js.

Common to all:

- Data goes to stdout, progress and logs to stderr. \`--json\` prints one JSON object with \`schemaVersion\`, or one
  object per line where a command goes on for a while (\`status\`: one per daemon that runs here). Errors are one or
  two lines on stderr, with \`--json\` one object on stdout; [exit codes](exit-codes.md) are the same for all commands.
- What a flag says comes first, then the environment, then the default:

  | variable | same as |
  |---|---|
  | \`SWARM_HOME\` | \`--home\`: the folder of the daemon. By default one per role in \`$XDG_DATA_HOME/lora-swarm\` (\`~/.local/share/lora-swarm\`) |
  | \`SWARM_LOG_LEVEL\` | \`--log-level\` |
  | \`SWARM_ENGINE\` | \`--engine\` |
  | \`SWARM_CACHE\` | folder of converted weights, \`$XDG_CACHE_HOME/lora-swarm\` (\`~/.cache/lora-swarm\`) by default; may be deleted |
  | \`NO_COLOR\` | no colours |

- The first Ctrl-C (or SIGTERM) finishes or hands back what is being done, saves, and says goodbye, within 5 seconds; a
  second one ends the command at once.
- Daemons log as JSON to \`<home>/logs/\`, and warnings to stderr: readable in a terminal, JSON in a pipe.
- An existing folder is never overwritten without \`--force\`.
`;

export function renderCliPage(): string {
  const program = createProgram(fakeContext().context);
  const commands = program.commands.filter((command) => command.name() !== 'help');
  const sections = commands.flatMap((command) => section(command, 'swarm'));
  return `${INTRODUCTION}\n${sections.join('\n')}`;
}

function section(command: Command, parent: string): string[] {
  const name = `${parent} ${command.name()}`;
  const children = command.commands;
  const args = command.registeredArguments.map((argument) => {
    const shown = `${argument.name()}${argument.variadic ? '...' : ''}`;
    return argument.required ? `<${shown}>` : `[${shown}]`;
  });
  if (children.length > 0) {
    return [`## ${name}\n\n${sentence(command)}\n`, ...children.flatMap((child) => section(child, name))];
  }
  const level = parent === 'swarm' ? '##' : '###';
  return [`${level} ${[name, ...args].join(' ')}\n\n${sentence(command)}\n\n${options(command)}\n`];
}

function sentence(command: Command): string {
  const text = command.description();
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

function options(command: Command): string {
  const rows = command.options.map(({ flags, description, defaultValue, mandatory }) => {
    const extra = mandatory
      ? ' (required)'
      : defaultValue === undefined || typeof defaultValue === 'boolean' || defaultValue === ''
        ? ''
        : ` (default: ${defaultValue})`;
    return `| \`${flags}\` | ${description.replaceAll('|', '\\|')}${extra} |`;
  });
  return ['| option | |', '|---|---|', ...rows].join('\n');
}

if (import.meta.main) await writeFile(cliPage, renderCliPage());
