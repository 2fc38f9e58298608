import { type Command, InvalidArgumentError, Option } from 'commander';
import { FORMATS } from '../../lora/data/examples.ts';
import { PACKINGS } from '../../lora/data/packing/pack-examples.ts';
import { TRUNCATIONS } from '../../lora/data/packing/truncation.ts';
import { TRAIN_ON } from '../../lora/data/render/rendered.ts';
import { type DataSettings, dataSettingsSchema } from '../../lora/data/settings.ts';
import { number } from './common.ts';
import { templatePath } from './template.ts';

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

/** Help text of options that take data files. */
export const DATA_FILES =
  'files, folders or patterns in the formats .jsonl, .json, .csv, .tsv, .parquet and .txt, which may be compressed (.gz, .zst)';

/** Adds the options of commands that read data. @param packing whether to add the options for packing samples into rows */
export function addDataOptions(command: Command, { packing }: { packing: boolean }): Command {
  command
    .addOption(
      new Option('--format <name>', 'format of the records; auto detects the format of each file')
        .choices(['auto', ...FORMATS])
        .default('auto'),
    )
    .option(
      '--column <field=name>',
      'read a field from a column with another name, as in messages=dialog; repeatable',
      pair,
    )
    .addOption(
      new Option(
        '--train-on <tokens>',
        'tokens that count in the loss; auto means the answers if the data has prompts, and otherwise all tokens; docs/data.md explains the choices',
      )
        .choices(['auto', ...TRAIN_ON])
        .default('auto'),
    )
    .option(
      '--template <name>',
      "chat template to use instead of the model's: chatml, plain, or a Jinja file",
    )
    .option(
      '--template-variable <name=value>',
      'variable for the chat template, such as enable_thinking=false; repeatable',
      variable,
    );
  if (packing) {
    command
      .addOption(
        new Option('--packing <name>', 'how samples are packed into rows; docs/data.md explains the choices')
          .choices(PACKINGS)
          .default('auto'),
      )
      .addOption(
        new Option(
          '--truncation <name>',
          'what to do with samples that are longer than a row; docs/data.md explains the choices',
        )
          .choices(TRUNCATIONS)
          .default('auto'),
      );
  }
  return command.option(
    '--bad-rows <fraction>',
    'maximum fraction of unusable records, from 0 to 1; if there are more, the command fails',
    number(0, 1),
    0.01,
  );
}

/** Converts the flags to settings. A relative template file is resolved against `cwd`. */
export function dataSettings(flags: DataFlags, cwd: string): DataSettings {
  const { template } = flags;
  return dataSettingsSchema.parse({
    format: flags.format,
    columns: flags.column,
    trainOn: flags.trainOn,
    template: template && templatePath(template, cwd),
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

/**
 * Parses name=value. Converts `true` and `false` to booleans, and numbers to numbers. Any other value stays a
 * text.
 */
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
