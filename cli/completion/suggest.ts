/** Suggestions for the words of a command line, from the definitions of the commands and from values of this machine. */
import { RootCommand, ShellCompDirective, type Command as TabCommand } from '@bomb.sh/tab';
import type { Argument, Command, Option } from 'commander';
import { FIXED_VALUES } from './fixed-values.ts';

/** Kinds of values that this machine knows. */
export type ValueKind =
  | 'jobs'
  | 'joined-jobs'
  | 'peers'
  | 'adapters'
  | 'tags'
  | 'invites'
  | 'rounds'
  | 'rounds-or-best';

/** A value, and a description that shells show beside it. */
export type Value = readonly [value: string, description: string];

/** Kinds of the values of arguments and options, by their names. */
const KINDS: Readonly<Record<string, ValueKind>> = {
  job: 'jobs',
  '--job': 'jobs',
  '--after': 'jobs',
  peer: 'peers',
  '--why': 'peers',
  '--peer': 'peers',
  version: 'tags',
  first: 'tags',
  second: 'tags',
  tag: 'tags',
  '--adapter': 'tags',
  '--from': 'tags',
  name: 'adapters',
  invite: 'invites',
  '--round': 'rounds-or-best',
  '--to': 'rounds-or-best',
};

/** Kinds that differ from KINDS, by the name of the command. */
const KINDS_OF_COMMANDS: Readonly<Record<string, Readonly<Record<string, ValueKind>>>> = {
  // The command `checkpoint pull` takes a job that the node of this machine has joined.
  pull: { job: 'joined-jobs' },
  // The command `events replay` shows the state after any round.
  replay: { '--round': 'rounds' },
  // Elsewhere, --from names an adapter.
  create: { '--from': 'jobs' },
};

/**
 * Matches values that a shell takes literally. Only such values are suggested, because peers choose their
 * names, and the script for bash expands suggestions. Otherwise, a name such as `$(command)` would run the
 * command.
 */
const SAFE_VALUE = /^[\w.][\w.:=@/+-]*$/;

export interface Suggestions {
  readonly values: readonly Value[];
  /** Whether the shell must suggest files, because the program knows no values for the word. */
  readonly files: boolean;
}

/**
 * Returns the suggestions for the last word of a command line.
 * @param words the words after the name of the program. The last word may be empty.
 * @param load returns the values that an argument or option of a kind can have
 */
export async function suggest(
  program: Command,
  words: readonly string[],
  load: (kind: ValueKind) => Promise<readonly Value[]>,
): Promise<Suggestions> {
  // Loading values is asynchronous, but the handlers of @bomb.sh/tab are synchronous. So the first run only finds out which
  // kinds of values are needed, and the second run gets the loaded values.
  const asked = new Set<ValueKind>();
  const first = run(program, words, (kind) => {
    asked.add(kind);
    return [];
  });
  if (asked.size === 0) return first;
  const loaded = new Map(
    await Promise.all([...asked].map(async (kind) => [kind, await load(kind)] as const)),
  );
  const { values } = run(program, words, (kind) => loaded.get(kind) ?? []);
  return { values, files: false };
}

/** Returns suggestions in the form that the scripts of @bomb.sh/tab read. */
export function suggestionText({ values, files }: Suggestions): string {
  // The user goes on typing after `KEY=`.
  const noSpace = values.some(([value]) => value.endsWith('='))
    ? ShellCompDirective.ShellCompDirectiveNoSpace
    : 0;
  const directive = files
    ? ShellCompDirective.ShellCompDirectiveDefault
    : ShellCompDirective.ShellCompDirectiveNoFileComp | noSpace;
  return [...values.map(([value, description]) => `${value}\t${description}`), `:${directive}`].join('\n');
}

function run(
  program: Command,
  words: readonly string[],
  valuesOf: (kind: ValueKind) => readonly Value[],
): Suggestions {
  const root = new RootCommand();
  describe(root, program, valuesOf);
  for (const [name, command] of nested(program, '')) {
    describe(root.command(name, command.description()), command, valuesOf);
  }
  const last = words.at(-1) ?? '';
  // @bomb.sh/tab takes every word with an equals sign for an option with its value.
  const isSetting = last.includes('=') && !last.startsWith('-');
  const parsed = isSetting ? [...words.slice(0, -1), ''] : [...words];
  const lines = printedBy(() => root.parse(parsed));
  const values = lines
    .slice(0, -1)
    .map((line): Value => {
      const [value, description = ''] = line.split('\t');
      return [value!, description];
    })
    .filter(([value]) => !isSetting || value.startsWith(last));
  return { values, files: values.length === 0 && !words.at(-1)?.startsWith('-') };
}

/** Yields all commands and their subcommands, each with the words that name it, such as `job create`. */
function* nested(command: Command, before: string): Generator<[string, Command]> {
  for (const child of command.createHelp().visibleCommands(command)) {
    if (child.name() === 'help' && before !== '') continue;
    const name = before === '' ? child.name() : `${before} ${child.name()}`;
    yield [name, child];
    yield* nested(child, name);
  }
}

function describe(tab: TabCommand, command: Command, valuesOf: (kind: ValueKind) => readonly Value[]): void {
  for (const option of command.createHelp().visibleOptions(command)) {
    const name = option.long?.slice(2);
    if (name === undefined) continue;
    const short = option.short?.slice(1);
    // Without a handler, the package assumes that an option has no value.
    if (!option.required && !option.optional) tab.option(name, option.description, short!);
    else
      tab.option(
        name,
        option.description,
        handler(option, valuesFor(command, option.long!, valuesOf)),
        short,
      );
  }
  for (const argument of command.registeredArguments) {
    tab.argument(
      argument.name(),
      handler(argument, valuesFor(command, argument.name(), valuesOf)),
      argument.variadic,
    );
  }
}

/** Returns the known values of an argument or option. Those that depend on the machine are loaded when they are needed. */
function valuesFor(
  command: Command,
  name: string,
  valuesOf: (kind: ValueKind) => readonly Value[],
): () => readonly Value[] {
  const kind = KINDS_OF_COMMANDS[command.name()]?.[name] ?? KINDS[name];
  if (kind === undefined) return () => FIXED_VALUES[name] ?? [];
  return () => valuesOf(kind).filter(([value]) => SAFE_VALUE.test(value));
}

function handler({ argChoices }: Option | Argument, known: () => readonly Value[]) {
  return (complete: (value: string, description: string) => void): void => {
    const values = argChoices?.map((choice): Value => [choice, '']) ?? known();
    for (const [value, description] of values) complete(value, description);
  };
}

/** Returns the lines that a function prints. Needed because @bomb.sh/tab prints its results with console.log. */
export function printedBy(work: () => void): string[] {
  const { log } = console;
  const texts: string[] = [];
  console.log = (text: unknown) => texts.push(String(text));
  try {
    work();
  } finally {
    console.log = log;
  }
  return texts.flatMap((text) => text.split('\n'));
}
