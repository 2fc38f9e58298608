import { defineErrors } from '../../common/errors.ts';

const OTHER_BASE = 'choose another base model';
// Advice names the option of the command line and the key of a job file, because both `lora-swarm train` and jobs read data.
const TEMPLATES = 'with --template (in a job file, with data.template): chatml, plain, or a file';
const OTHER_TEMPLATE = `use another template ${TEMPLATES}`;

export const dataError = defineErrors({
  DATA_BAD_ROWS: {
    kind: 'failed',
    next: 'list the records with "lora-swarm data inspect" and correct them, or allow more of them with --bad-rows (in a job file, with data.badRowShare)',
  },
  DATA_COLUMNS: {
    kind: 'usage',
    next: 'give --column (in a job file, data.columns) only for the fields of one format (docs/data.md)',
  },
  DATA_CSV: 'failed',
  DATA_EMPTY: { kind: 'failed', next: 'look at the data with "lora-swarm data inspect"' },
  DATA_ENCODING: 'usage',
  DATA_FORMAT: 'usage',
  DATA_JSON: 'failed',
  DATA_MISMATCH: { kind: 'failed', next: 'ask the operator to create the job again' },
  DATA_NO_FILES: { kind: 'notFound', next: 'check the path' },
  DATA_PARQUET: 'failed',
  DATA_TEMPLATE: {
    kind: 'failed',
    next: 'make one sample per answer (--train-on turns; in a job file, data.trainOn: turns), train on all tokens (--train-on all), or use a template that does not change earlier turns',
  },
  DATA_TOO_SMALL: {
    kind: 'failed',
    next: 'name held-out files, or use a .jsonl file with one document per line',
  },
  DATA_UNREADABLE: 'usage',
  HELD_OUT_OVERLAP: 'failed',
  PACKED_INVALID: 'failed',
  PACKED_ROW: 'failed',
  PACK_LENGTH: 'failed',
  ROWS_COUNT: 'failed',
  ROWS_POSITION: 'failed',
  ROW_ROLE: 'failed',
  ROW_TEMPLATE: 'failed',
  ROW_TOKEN: { kind: 'failed', next: "pack the data with this model's tokenizer" },
  ROW_TOKENS: 'failed',
  ROW_TURNS: {
    kind: 'failed',
    next: 'train on the last answer only (--train-on last; in a job file, data.trainOn: last), or split the conversation',
  },
  TEMPLATE_CLOSED: 'failed',
  TEMPLATE_INVALID: { kind: 'failed', next: OTHER_TEMPLATE },
  TEMPLATE_LIMIT: { kind: 'failed', next: OTHER_TEMPLATE },
  TEMPLATE_MISSING: {
    kind: 'notFound',
    next: `name a chat template ${TEMPLATES}`,
  },
  TEMPLATE_UNREADABLE: { kind: 'failed', next: OTHER_TEMPLATE },
  TOKENIZER_INVALID: { kind: 'failed', next: "put the model's own tokenizer.json into its folder" },
  TOKENIZER_LIMIT: { kind: 'failed', next: OTHER_BASE },
  TOKENIZER_UNSUPPORTED: { kind: 'failed', next: OTHER_BASE },
});

/** Codes of errors that concern one example only. All other errors of rendering concern every example. */
export const EXAMPLE_CODES: ReadonlySet<string> = new Set<keyof typeof dataError.table>([
  'ROW_ROLE',
  'ROW_TEMPLATE',
  'ROW_TOKENS',
  'ROW_TURNS',
]);
