import type { Command } from 'commander';
import { commonError } from '../../common/common-errors.ts';

/**
 * Refuses options that were given on the command line and that the command would ignore.
 * @param names names of the options as commander stores their values, such as `inviteFile`
 * @param condition the end of the sentence "has an effect only …"
 * @throws SwarmError USAGE that names the options
 */
export function refuseUnused(command: Command, names: readonly string[], condition: string): void {
  const given = names.filter((name) => command.getOptionValueSource(name) === 'cli');
  if (given.length === 0) return;
  const flags = given.map((name) => command.options.find((option) => option.attributeName() === name)!.long!);
  throw commonError(
    'USAGE',
    `${flags.join(' and ')} ${flags.length === 1 ? 'has' : 'have'} an effect only ${condition}`,
    { options: flags },
    { next: `leave out ${flags.join(' and ')}` },
  );
}
