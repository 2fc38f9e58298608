/** The formats of rows: what each needs, how it is recognised, and how a row of it becomes an example. */

import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import type { ExampleBody, Format } from '../examples.ts';
import { type Columns, Fields, isObject, listOf, RowProblem, type RowValue } from './fields.ts';
import { CONVERSATION_COLUMNS, isConversation, messageKeys, readMessages } from './messages.ts';
import { readCompletion, readInstruction, readTextRow } from './plain.ts';
import { readSegments, readTokens } from './tokens.ts';

interface Definition {
  /** Columns, by their usual names; a column map renames them. */
  fields: readonly string[];
  /** What people are told. */
  summary: string;
  fits(fields: Fields, columns: Columns): boolean;
  read(fields: Fields, columns: Columns): ExampleBody;
}

const conversation = (style: 'messages' | 'sharegpt', summary: string): Definition => ({
  fields: ['messages', 'tools', 'system', 'role', 'content'],
  summary,
  fits: (fields, columns) =>
    isConversation(fields.value('messages', CONVERSATION_COLUMNS), messageKeys(columns, style)),
  read: (fields, columns) => readMessages(fields, messageKeys(columns, style), style),
});

const isText = (value: unknown): boolean => typeof value === 'string';

/**
 * In the order in which a row that fits several is understood: what says most about its tokens first. So the text
 * that Alpaca files carry beside instruction and output is not read a second time.
 */
const DEFINITIONS: Readonly<Record<Format, Definition>> = {
  tokens: {
    fields: ['input_ids', 'labels', 'attention_mask'],
    summary: 'input_ids, perhaps labels and attention_mask',
    fits: (fields) => Number.isInteger(listOf(fields.value('input_ids'))?.[0]),
    read: readTokens,
  },
  segments: {
    fields: ['segments'],
    summary: 'segments: [{label, text}]',
    fits: (fields) => {
      const first = listOf(fields.value('segments'))?.[0];
      return isObject(first) && 'label' in first && 'text' in first;
    },
    read: readSegments,
  },
  messages: conversation('messages', 'messages: [{role, content}], perhaps tools'),
  sharegpt: conversation('sharegpt', 'conversations: [{from, value}], perhaps system and tools'),
  completion: {
    fields: ['prompt', 'completion', 'tools'],
    summary: 'prompt and completion',
    fits: (fields) =>
      ['prompt', 'completion'].every(
        (name) => isText(fields.value(name)) || Array.isArray(fields.value(name)),
      ),
    read: readCompletion,
  },
  alpaca: {
    fields: ['instruction', 'input', 'output', 'system', 'history'],
    summary: 'instruction and output, perhaps input, system and history',
    fits: (fields) => isText(fields.value('instruction')) && isText(fields.value('output')),
    read: readInstruction,
  },
  text: {
    fields: ['text'],
    summary: 'text',
    fits: (fields) => isText(fields.value('text')),
    read: readTextRow,
  },
};

const ALL = Object.entries(DEFINITIONS) as [Format, Definition][];

/** Formats that have every field of a column map. @throws DATA_COLUMNS when none has */
export function candidates(format: Format | 'auto', columns: Columns): Format[] {
  const mapped = Object.keys(columns);
  const chosen = ALL.filter(([name]) => format === 'auto' || format === name);
  const fitting = chosen.filter(([, { fields }]) => mapped.every((field) => fields.includes(field)));
  if (fitting.length > 0) return fitting.map(([name]) => name);
  const known = chosen.map(([name, { fields }]) => `${name} (${fields.join(', ')})`).join('; ');
  throw dataError(
    'DATA_COLUMNS',
    `no format has all of the fields ${mapped.join(', ')} that columns are named for; there are ${known}`,
    { columns, format },
  );
}

/** The first of the candidates that fits a row; null when none does. */
export function recognise(row: RowValue, among: readonly Format[], columns: Columns): Format | null {
  const fields = new Fields(row, columns);
  return among.find((name) => DEFINITIONS[name].fits(fields, columns)) ?? null;
}

/** @throws RowProblem when the row cannot be used */
export function readRow(row: RowValue, format: Format, columns: Columns): ExampleBody {
  return DEFINITIONS[format].read(new Fields(row, columns), columns);
}

/** Every column that a row of these formats may be read from. */
export function columnsOf(formats: readonly Format[], columns: Columns): Set<string> {
  return new Set(
    formats.flatMap((name) =>
      DEFINITIONS[name].fields.flatMap((field) => {
        const named = columns[field];
        if (named !== undefined) return [named];
        return field === 'messages' ? CONVERSATION_COLUMNS : [field];
      }),
    ),
  );
}

/** Nothing in a file fits. `rows`: those that were looked at. */
export function unrecognised(
  file: string,
  rows: readonly RowValue[],
  { among, columns }: { among: readonly Format[]; columns: Columns },
): SwarmError {
  const found = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const names = found.join(', ') || '(none)';
  const refuse = (reason: string, missing: string | null = null) =>
    dataError('DATA_FORMAT', `${file} ${reason}`, { file, columns: found, formats: among, missing });
  // Role and content are named within the messages.
  const absent = Object.entries(columns).find(
    ([field, column]) => field !== 'role' && field !== 'content' && !found.includes(column),
  );
  if (absent) {
    const [field, column] = absent;
    return refuse(`has no column "${column}", which is named for ${field}; there are ${names}`, column);
  }
  const known = among.map((name) => `${name} (${DEFINITIONS[name].summary})`).join('; ');
  const [only, ...others] = among;
  if (others.length === 0) {
    return refuse(`has no row of the format ${known}: ${problem(rows[0]!, only!, columns)}`);
  }
  return refuse(
    `has the columns ${names}, which is no known format; say which of them is what ` +
      '(--column prompt=NAME --column completion=NAME, or --column text=NAME; in job files data.columns). ' +
      `Known are ${known}`,
  );
}

/** Why a row is not of a format that it does not fit. */
function problem(row: RowValue, format: Format, columns: Columns): string {
  try {
    readRow(row, format, columns);
  } catch (error) {
    if (error instanceof RowProblem) return error.message;
    throw error;
  }
  return 'its first list is empty';
}
