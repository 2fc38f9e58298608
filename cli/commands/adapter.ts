import type { Command } from 'commander';
import { registerAdd } from '../adapter/add.ts';
import { registerDiff } from '../adapter/diff.ts';
import { registerExport } from '../adapter/export.ts';
import { registerHub } from '../adapter/hub.ts';
import { registerList } from '../adapter/list.ts';
import { registerMerge } from '../adapter/merge.ts';
import { registerRemove } from '../adapter/remove.ts';
import { registerShare } from '../adapter/share.ts';
import { registerTag } from '../adapter/tag.ts';
import type { Context } from '../context.ts';

export function registerAdapter(program: Command, context: Context): void {
  const adapter = program
    .command('adapter')
    .helpCommand(false)
    .description('keep versions of adapters on this machine: add, list, tag, diff, merge and export them');
  for (const register of [
    registerAdd,
    registerList,
    registerTag,
    registerDiff,
    registerMerge,
    registerRemove,
    registerExport,
    registerHub,
    registerShare,
  ])
    register(adapter, context);
}
