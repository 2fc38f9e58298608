import { Command } from 'commander';
import { nearest } from '../common/nearest.ts';
import { countOf } from '../common/text.ts';
import type { SwarmError } from '../index.ts';
import { usageError } from './errors.ts';

/** Names that users may try because other programs have them, and the commands of this program with the same purpose. */
const SAME_PURPOSE: readonly (readonly [tried: string, commands: string])[] = [
  ['edit change update modify configure', 'set config'],
  ['new add start submit run launch', 'create install'],
  ['continue unpause start', 'resume'],
  ['ls all', 'list'],
  ['info describe view details', 'show status list'],
  ['delete remove del', 'rm revoke uninstall stop ban'],
  ['kill cancel end abort finish', 'stop drain revoke'],
  ['stop quit exit leave shutdown', 'drain'],
  ['revert restore undo', 'rollback'],
  ['copy fork duplicate', 'clone'],
  ['download fetch get', 'pull'],
  ['upload', 'push publish'],
  ['kick block', 'ban'],
  ['unban allow forgive', 'pardon'],
];

/** Words with which users try to stop a daemon. */
const STOP_WORDS = ['stop', 'kill', 'end', 'quit', 'exit', 'leave', 'shutdown'];

/** How to stop a daemon, by the command that starts it. The program itself has the empty name. */
const WAYS_TO_STOP: Readonly<Record<string, string>> = {
  node: '"lora-swarm node drain" stops the node after its round, and Ctrl-C in its terminal stops it at once',
  coordinator:
    'Ctrl-C in its terminal stops a coordinator, and "lora-swarm service uninstall coordinator" stops its service; "lora-swarm job stop" ends a job',
  '': '"lora-swarm node drain" stops a node, Ctrl-C in the terminal of a daemon stops the daemon, and "lora-swarm job stop" ends a job',
};

/** A command of the program. It answers an unknown subcommand with an error that names similar commands. */
export class ProgramCommand extends Command {
  override createCommand(name?: string): ProgramCommand {
    return new ProgramCommand(name);
  }

  /** Called by commander when a group without an action gets an unknown subcommand. @throws SwarmError USAGE */
  unknownCommand(): never {
    throw unknownCommand(this, this.args[0]!);
  }

  /** Called by commander when a command gets more arguments than it takes. @throws SwarmError USAGE */
  _excessArguments(given: readonly string[]): never {
    const takes = this.registeredArguments.length;
    if (takes === 0 && this.commands.length > 0) throw unknownCommand(this, given[0]!);
    throw usageError(
      `"${pathOf(this)}" takes ${takes === 0 ? 'no argument' : countOf(takes, 'argument')}, and got ${given.length}: ${given.join(' ')}`,
      wayToStop(this, given[0]!) ?? `${helpOf(this)} shows its arguments and options`,
    );
  }
}

/** Returns an error about a name that is not a subcommand of `group`. */
export function unknownCommand(group: Command, name: string): SwarmError {
  const similar = similarCommands(group, name).map((command) => `"${pathOf(command)}"`);
  const known = visible(group).flatMap((command) => (command.name() === 'help' ? [] : [command.name()]));
  return usageError(
    `there is no command "${pathOf(group)} ${name}"`,
    wayToStop(group, name) ?? adviceFor(group, similar, known),
  );
}

function adviceFor(group: Command, similar: readonly string[], known: readonly string[]): string {
  return similar.length > 0
    ? `did you mean ${similar.join(' or ')}? ${helpOf(group)} lists all commands`
    : known.length > 0 && group.parent !== null
      ? `use one of its commands: ${known.join(', ')}`
      : `${helpOf(group)} lists all commands`;
}

/** Returns how to stop a daemon; null if the user did not try to stop one. */
function wayToStop(group: Command, word: string): string | null {
  if (!STOP_WORDS.includes(word)) return null;
  return WAYS_TO_STOP[group.parent === null ? '' : group.name()] ?? null;
}

/**
 * Returns the commands that a user probably meant: those of the group or, if none is similar, those of the whole program.
 * @param name a name that is not a subcommand of the group
 */
export function similarCommands(group: Command, name: string): Command[] {
  const own = visible(group);
  const names = SAME_PURPOSE.flatMap(([tried, commands]) =>
    tried.split(' ').includes(name) ? commands.split(' ') : [],
  );
  const same = own.filter((command) => names.includes(command.name()));
  if (same.length > 0 && group.parent !== null) return same;
  let program = group;
  while (program.parent !== null) program = program.parent;
  for (const commands of [own, descendants(program)]) {
    const meant = nearest(
      name,
      commands.map((command) => command.name()),
    );
    if (meant !== null) return commands.filter((command) => command.name() === meant);
  }
  return [];
}

function visible(group: Command): Command[] {
  return group.createHelp().visibleCommands(group);
}

function descendants(group: Command): Command[] {
  return visible(group).flatMap((command) => [command, ...descendants(command)]);
}

/** Returns the words that run a command, such as `lora-swarm job list`. */
function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function helpOf(command: Command): string {
  const [program, ...names] = pathOf(command).split(' ');
  return `"${[program, 'help', ...names].join(' ')}"`;
}
