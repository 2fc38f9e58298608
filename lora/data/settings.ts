/** Settings for reading, rendering and packing data. Training, evaluation and jobs share them. */
import { z } from 'zod';
import { commonError } from '../../common/common-errors.ts';
import { specProblems } from '../../common/schema-problems.ts';
import { FORMATS } from './examples.ts';
import { PACKINGS } from './packing/pack-examples.ts';
import { TRUNCATIONS } from './packing/truncation.ts';
import type { ReadExamplesOptions } from './read-examples.ts';
import { TRAIN_ON } from './render/rendered.ts';
import { openRenderer, type Renderer } from './render/renderer.ts';
import { DEFAULT_BAD_ROW_SHARE } from './row-report.ts';
import type { TextTokenizer } from './tokenizer.ts';

const name = z.string().min(1).max(256);

export const dataSettingsSchema = z.strictObject({
  /** Format of the records. With "auto", the format of each file is recognised from its records. @default "auto" */
  format: z.enum(['auto', ...FORMATS]).default('auto'),
  /** Maps a field to the column that holds it, such as `messages: dialog`. `role` and `content` are keys of a message. */
  columns: z.record(name, name).default({}),
  /**
   * The tokens that are supervised. With "auto", these are the answers if the data has prompts, and all tokens otherwise.
   * @default "auto"
   */
  trainOn: z.enum(['auto', ...TRAIN_ON]).default('auto'),
  /** Chat template: `chatml`, `plain`, or a file; null for the model's own. @default null */
  template: z.string().min(1).max(4096).nullable().default(null),
  /** Further variables for the chat template. @default none */
  templateVariables: z.record(name, z.union([z.string(), z.number(), z.boolean()])).default({}),
  /** Packing: the way in which samples share rows. @default "auto" */
  packing: z.enum(PACKINGS).default('auto'),
  /** Treatment of samples that are longer than a packed row. @default "auto" */
  truncation: z.enum(TRUNCATIONS).default('auto'),
  /**
   * Share of bad records above which the run stops. With 0, it stops at the first bad record. With 1, it never stops
   * because of bad records. @default 0.01
   */
  badRowShare: z.number().min(0).max(1).default(DEFAULT_BAD_ROW_SHARE),
});

export type DataSettings = z.output<typeof dataSettingsSchema>;

/** Fills in the defaults. @throws SwarmError USAGE. The values of the error name the field and the problems. */
export function parseDataSettings(settings: z.input<typeof dataSettingsSchema>): DataSettings {
  const result = dataSettingsSchema.safeParse(settings);
  if (result.success) return result.data;
  const problems = specProblems(dataSettingsSchema, settings, result.error.issues);
  const texts = problems.map(({ text }) => text);
  throw commonError(
    'USAGE',
    texts.join('; '),
    { field: problems[0]!.field, problems: texts },
    { next: 'correct these settings (docs/data.md)' },
  );
}

/** Selects the settings that `readExamples` takes. */
export function readingOf({
  format,
  columns,
}: DataSettings): Pick<ReadExamplesOptions, 'format' | 'columns'> {
  return { format, columns };
}

/**
 * Opens the renderer that converts examples to tokens with the tokenizer and chat template of a model folder.
 * @throws TEMPLATE_UNREADABLE
 */
export function rendererFor(
  { template, templateVariables, trainOn }: DataSettings,
  { dir, now }: { dir: string; now: number },
  deps: { tokenizer: TextTokenizer },
): Promise<Renderer> {
  const variables = templateVariables;
  return openRenderer({ dir, template, variables, trainOn: trainOn === 'auto' ? null : trainOn, now }, deps);
}
