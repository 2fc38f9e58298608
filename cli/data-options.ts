import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { FORMATS } from '../lora/data/examples.ts';
import { PACKINGS } from '../lora/data/packing/pack-examples.ts';
import { TRUNCATIONS } from '../lora/data/packing/truncation.ts';
import { isBuiltIn } from '../lora/data/render/built-in.ts';
import { TRAIN_ON } from '../lora/data/render/rendered.ts';
import { type DataSettings, dataSettingsSchema } from '../lora/data/settings.ts';
import { number } from './options.ts';

export interface DataFlags {
  format: DataSettings['format'];
  column?: Record<string, string>;
  trainOn: DataSettings['trainOn'];
  template?: string;
  templateVariable?: DataSettings['templateVariables'];
  packing?: DataSettings['packing'];
  truncation?: DataSettings['truncation'];
  badRows: number;
}

/** For the help of options that take data. */
export const DATA_FILES =
  'files, folders or patterns: .jsonl, .json, .csv, .tsv, .parquet, .txt, also .gz and .zst';

/** Options of commands that read data. `packing`: also how rows are made of it. */
export function addDataOptions(command: Command, { packing }: { packing: boolean }): Command {
  command
    .addOption(
      new Option('--format <name>', 'format of the rows, instead of recognising it')
        .choices(['auto', ...FORMATS])
        .default('auto'),
    )
    .option('--column <field=name>', 'the column that holds a field (messages=dialog); may be repeated', pair)
    .addOption(
      new Option('--train-on <tokens>', 'tokens that give a loss; auto: the answers where there are prompts')
        .choices(['auto', ...TRAIN_ON])
        .default('auto'),
    )
    .option('--template <name>', "chat template instead of the model's: chatml, plain, or a file")
    .option('--template-variable <name=value>', 'variable for the template; may be repeated', variable);
  if (packing) {
    command
      .addOption(new Option('--packing <name>', 'how samples share rows').choices(PACKINGS).default('auto'))
      .addOption(
        new Option('--truncation <name>', 'what happens to samples longer than a row')
          .choices(TRUNCATIONS)
          .default('auto'),
      );
  }
  return command.option(
    '--bad-rows <share>',
    'share of unusable rows that is put up with',
    number(0, 1),
    0.01,
  );
}

/** A template that is a file is taken from the working folder. */
export function dataSettings(flags: DataFlags, cwd: string): DataSettings {
  const { template } = flags;
  return dataSettingsSchema.parse({
    format: flags.format,
    columns: flags.column,
    trainOn: flags.trainOn,
    template: template === undefined || isBuiltIn(template) ? template : resolve(cwd, template),
    templateVariables: flags.templateVariable,
    packing: flags.packing,
    truncation: flags.truncation,
    badRowShare: flags.badRows,
  });
}

function pair(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('Use field=column.');
  return { ...earlier, [text.slice(0, at)]: text.slice(at + 1) };
}

/** true, false and numbers are those, everything else is text. */
function variable(
  text: string,
  earlier: DataSettings['templateVariables'] = {},
): DataSettings['templateVariables'] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Use name=value.');
  return { ...earlier, [text.slice(0, at)]: scalar(text.slice(at + 1)) };
}

function scalar(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
