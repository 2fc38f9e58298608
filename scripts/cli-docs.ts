/** Generates docs/cli.md from the commands: `node scripts/cli-docs.ts`. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Argument, Command, Option } from 'commander';
import { createProgram } from '../cli/program.ts';
import { fakeContext } from '../test/utils/cli-context.ts';

export const cliPage = fileURLToPath(new URL('../docs/cli.md', import.meta.url));

const INTRODUCTION = `# Commands

This page lists all commands and their options. \`node scripts/cli-docs.ts\` generates it from the source, and a test
compares the two. In a checkout of this repository, run the commands as \`npx lora-swarm …\`, which uses the Node.js that
\`npm ci\` installed there.

All commands follow these rules:

- The result of a command goes to stdout. Progress and logs go to stderr.
- With \`--json\` a command prints one JSON object with a \`schemaVersion\`. A command that runs for a while prints one
  object per line. \`status\` prints one object per daemon.
- An error is one or two lines on stderr, or with \`--json\` one object on stdout. All commands use the same
  [exit codes](exit-codes.md).
- A flag overrides an environment variable, and a variable overrides the default:

  | variable | meaning |
  |---|---|
  | \`SWARM_HOME\` | value for \`--home\`, the home folder of the daemon. The default is a folder for each role (coordinator or node) in \`$XDG_DATA_HOME/lora-swarm\` (\`~/.local/share/lora-swarm\`) |
  | \`SWARM_INVITE\` | invite for \`lora-swarm node\` and \`lora-swarm checkpoint pull\`, if neither an argument nor \`--invite-file\` gives one |
  | \`SWARM_LOG_LEVEL\` | value for \`--log-level\` |
  | \`SWARM_ENGINE\` | value for \`--engine\` |
  | \`SWARM_API_KEY\` | API key that clients of \`lora-swarm serve\` must send, and that \`lora-swarm chat --url\` sends to its server |
  | \`SWARM_CACHE\` | folder of converted weights. The default is \`$XDG_CACHE_HOME/lora-swarm\` (\`~/.cache/lora-swarm\`). You may delete it, because the program converts the weights again when it needs them |
  | \`NO_COLOR\` | if it is set to any text, the output has no colours |

- The first Ctrl-C (or SIGTERM) stops a command within 5 seconds. In this time, the command finishes or gives up
  its current work, and saves its state. A second Ctrl-C ends the command at once.
- A daemon writes its log as JSON to \`<home>/logs/\`. It also prints warnings to stderr as plain lines, and with
  \`--json\` as JSON. With \`--log-level\`, stderr gets whole log entries, as text in a terminal and as JSON in a pipe.
- No command overwrites an existing folder without \`--force\`.
`;

/** Renders the page from the definitions of the commands. */
export function renderCliPage(): string {
  const program = createProgram(fakeContext().context);
  const commands = program.commands.filter((command) => command.name() !== 'help');
  const sections = commands.flatMap((command) => section(command, 'lora-swarm'));
  return `${INTRODUCTION}\n${sections.join('\n')}`;
}

function section(command: Command, parent: string): string[] {
  const name = `${parent} ${command.name()}`;
  const children = command.commands;
  const args = command.registeredArguments.map(shown);
  if (children.length > 0) {
    // A command with subcommands may also run without a subcommand.
    const own = command.options.length > 0 ? `\n${options(command)}\n` : '';
    return [
      `## ${name}\n\n${sentence(command)}\n${own}`,
      ...children.flatMap((child) => section(child, name)),
    ];
  }
  const level = parent === 'lora-swarm' ? '##' : '###';
  return [`${level} ${[name, ...args].join(' ')}\n\n${sentence(command)}\n\n${options(command)}\n`];
}

function sentence(command: Command): string {
  const text = command.description();
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** Returns a table of the arguments that have a help text, and of all options. */
function options(command: Command): string {
  const groups = Map.groupBy(command.options, ({ helpGroupHeading }) => helpGroupHeading ?? '');
  const rows = [...groups].flatMap(([heading, members]) => [
    ...(groups.size > 1 && heading !== '' ? [`| **${heading.replace(/:$/, '')}** | |`] : []),
    ...members.map(optionRow),
  ]);
  const explained = command.registeredArguments.filter(({ description }) => description !== '');
  const first = explained.map((argument) => `| \`${shown(argument)}\` | ${cell(argument.description)} |`);
  return ['| option | meaning |', '|---|---|', ...first, ...rows].join('\n');
}

function optionRow(option: Option): string {
  const { flags, description, defaultValue, defaultValueDescription, mandatory, argChoices } = option;
  const hasDefault = defaultValue !== undefined && typeof defaultValue !== 'boolean' && defaultValue !== '';
  const notes = [
    ...(mandatory ? ['required'] : []),
    ...(argChoices === undefined ? [] : [`choices: ${argChoices.join(', ')}`]),
    ...(hasDefault ? [`default: ${defaultValueDescription ?? defaultValue}`] : []),
  ];
  const extra = notes.length === 0 ? '' : ` (${notes.join('; ')})`;
  return `| \`${flags}\` | ${cell(description)}${extra} |`;
}

function shown(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return argument.required ? `<${name}>` : `[${name}]`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (import.meta.main) await writeFile(cliPage, renderCliPage());
