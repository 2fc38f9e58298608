import type { Command } from 'commander';
import type { TagChange } from '../../index.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';
import { jsonOption } from '../options/common.ts';
import { printJson, printLines, terminalColumns } from '../print.ts';
import { tagLogLines } from '../views/adapters.ts';
import { type RegistryFlags, registryOption, VERSION_HELP, withRegistry } from './with-registry.ts';

interface TagFlags extends RegistryFlags {
  reason?: string;
  delete?: boolean;
}

const REASON = ['--reason <text>', 'reason for the move, which the log of the tag shows'] as const;
/** Maximum length of a reason in the log of a tag, in characters. */
const REASON_CHARACTERS = 300;

export function registerTag(adapter: Command, context: Context): void {
  adapter
    .command('tag')
    .description('move a tag to a version, or show the log of the tags of an adapter')
    .argument('<version>', VERSION_HELP)
    .argument(
      '[tag]',
      'tag to move, made of the characters a to z, 0 to 9, ".", "_" and "-" (default: show the log of all tags)',
    )
    .option(...REASON)
    .option('--delete', 'delete the tag; its log stays')
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, tag: string | undefined, flags: TagFlags) =>
      tag === undefined ? log(context, reference, flags) : move(context, reference, tag, flags),
    );
  adapter
    .command('rollback')
    .description('move a tag back to the version that it named before; repeat the command to go further back')
    .argument('<tag>', 'tag to move back: NAME:TAG, or NAME for the tag latest of this adapter')
    .option(...REASON)
    .addOption(registryOption())
    .addOption(jsonOption())
    .action((reference: string, flags: TagFlags) => rollback(context, reference, flags));
}

async function log(context: Context, reference: string, flags: TagFlags): Promise<void> {
  if (flags.delete)
    throw usageError(
      '--delete needs the name of a tag',
      'give the tag as the second argument: lora-swarm adapter tag NAME TAG --delete',
    );
  await withRegistry(context, flags, (registry) => {
    const { name } = registry.resolve(reference);
    const changes = registry.tagLog(name);
    if (flags.json) printJson(context, { schemaVersion: 1, name, changes });
    else printLines(context, tagLogLines(changes, terminalColumns(context)));
  });
}

async function move(context: Context, reference: string, tag: string, flags: TagFlags): Promise<void> {
  await withRegistry(context, flags, async (registry) => {
    const { name } = registry.resolve(reference);
    const reason = reasonOf(flags, 'lora-swarm adapter tag');
    const change = flags.delete
      ? await registry.untag(name, tag, reason)
      : await registry.tag(reference, tag, reason);
    print(context, name, change, flags);
  });
}

async function rollback(context: Context, reference: string, flags: TagFlags): Promise<void> {
  const { requireReference } = await import('../../registry/reference.ts');
  const parsed = requireReference(reference);
  if (!('tag' in parsed))
    throw usageError(
      `"${reference}" names a version, and only a tag can be moved back`,
      'name a tag: NAME:TAG',
    );
  await withRegistry(context, flags, async (registry) => {
    const reason = reasonOf(flags, 'lora-swarm adapter rollback');
    print(context, parsed.name, await registry.rollback(parsed.name, parsed.tag, reason), flags);
  });
}

function reasonOf({ reason }: TagFlags, otherwise: string): string {
  return (reason ?? otherwise).slice(0, REASON_CHARACTERS);
}

function print(context: Context, name: string, change: TagChange, { json }: RegistryFlags): void {
  const { tag, from, to } = change;
  const at = (number: number | null): string => (number === null ? 'none' : `v${number}`);
  if (json) printJson(context, { schemaVersion: 1, name, ...change });
  else printLines(context, [`${name}:${tag}  ${at(from)} -> ${at(to)}`]);
}
