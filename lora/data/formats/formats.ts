/** The formats of records: their fields, how they are recognised, and how their records become examples. */

import type { SwarmError } from '../../../common/errors.ts';
import { dataError } from '../errors.ts';
import type { ExampleBody, Format } from '../examples.ts';
import { type Columns, Fields, isObject, listOf, RowProblem, type RowValue } from './fields.ts';
import {
  CONVERSATION_COLUMNS,
  conversationWithOtherKeys,
  isConversation,
  messageKeys,
  readMessages,
} from './messages.ts';
import { readCompletion, readInstruction, readTextRow } from './plain.ts';
import { readSegments, readTokens } from './tokens.ts';

interface Definition {
  /** Fields of the format. By default each field is read from the column of the same name. */
  fields: readonly string[];
  /** The fields of the format, as error messages list them. */
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
 * All formats, in the order in which they are tried: the most specific first. For example, Alpaca files also have a
 * `text` column that repeats instruction and output, so `alpaca` is tried before `text`.
 */
const DEFINITIONS: Readonly<Record<Format, Definition>> = {
  tokens: {
    fields: ['input_ids', 'labels', 'attention_mask'],
    summary: 'input_ids; optional: labels, attention_mask',
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
  messages: conversation('messages', 'messages: [{role, content}]; optional: tools'),
  sharegpt: conversation('sharegpt', 'conversations: [{from, value}]; optional: system, tools'),
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
    summary: 'instruction and output; optional: input, system, history',
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

/** Returns the formats that have every field named in `columns`. @throws DATA_COLUMNS if there is none */
export function candidates(format: Format | 'auto', columns: Columns): Format[] {
  const mapped = Object.keys(columns);
  const chosen = ALL.filter(([name]) => format === 'auto' || format === name);
  const fitting = chosen.filter(([, { fields }]) => mapped.every((field) => fields.includes(field)));
  if (fitting.length > 0) return fitting.map(([name]) => name);
  const known = chosen.map(([name, { fields }]) => `${name} (${fields.join(', ')})`).join(', ');
  throw dataError(
    'DATA_COLUMNS',
    `no format has all of the fields ${mapped.join(', ')}; the known formats are ${known}`,
    { columns, format },
  );
}

/** Returns the first format in the list that fits a record, or null. */
export function recognise(row: RowValue, formats: readonly Format[], columns: Columns): Format | null {
  const fields = new Fields(row, columns);
  return formats.find((name) => DEFINITIONS[name].fits(fields, columns)) ?? null;
}

/** Converts a record to an example. @throws RowProblem if the record cannot be used */
export function readRow(row: RowValue, format: Format, columns: Columns): ExampleBody {
  return DEFINITIONS[format].read(new Fields(row, columns), columns);
}

/** Returns every column that records of these formats may use. */
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

const NAME_COLUMNS =
  'name the columns (--column prompt=NAME --column completion=NAME, or --column text=NAME; ' +
  'in a job file, with data.columns)';

/** Makes the error for a file in which no record fits a format. @param rows the records that were tried */
export function unrecognised(
  file: string,
  rows: readonly RowValue[],
  { formats, columns }: { formats: readonly Format[]; columns: Columns },
): SwarmError {
  const found = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const names = found.join(', ') || '(none)';
  const refuse = (
    reason: string,
    { next, ...values }: { missing?: string; keys?: readonly string[]; next?: string } = {},
  ) =>
    dataError(
      'DATA_FORMAT',
      `${file} ${reason}`,
      { file, columns: found, formats, missing: null, ...values },
      { next },
    );
  // The fields role and content refer to keys of a message, not to columns.
  const absent = Object.entries(columns).find(
    ([field, column]) => field !== 'role' && field !== 'content' && !found.includes(column),
  );
  if (absent) {
    const [field, column] = absent;
    return refuse(`has no column "${column}" for the field ${field}; its columns are ${names}`, {
      missing: column,
    });
  }
  const isOfConversations = (name: Format): boolean => name === 'messages' || name === 'sharegpt';
  const conversation = formats.some(isOfConversations) ? conversationWithOtherKeys(rows[0]!, columns) : null;
  if (conversation !== null) {
    const { column, keys } = conversation;
    const howTo =
      `say which key holds the role and which key holds the text: --column messages=${column} ` +
      '--column role=KEY --column content=KEY';
    // A list of objects need not be a conversation. It can be the choices of a question, for example.
    const isCertain = CONVERSATION_COLUMNS.includes(column) || formats.every(isOfConversations);
    return isCertain
      ? refuse(`fits no format: the messages in the column "${column}" have the keys ${keys.join(', ')}`, {
          keys,
          next: `${howTo} (in a job file, with data.columns)`,
        })
      : refuse(
          `has the columns ${names}, which fit no format; the objects in the column "${column}" have the keys ${keys.join(', ')}`,
          { keys, next: `if "${column}" holds conversations, ${howTo}; otherwise ${NAME_COLUMNS}` },
        );
  }
  const known = formats.map((name) => `${name} (${DEFINITIONS[name].summary})`).join(', ');
  const [only, ...others] = formats;
  if (others.length === 0) {
    return refuse(`has no records of the format ${known}: ${problem(rows[0]!, only!, columns)}`);
  }
  return refuse(`has the columns ${names}, which fit no format; the known formats are ${known}`, {
    next: NAME_COLUMNS,
  });
}

/** Explains why a record does not fit a format. */
function problem(row: RowValue, format: Format, columns: Columns): string {
  try {
    readRow(row, format, columns);
  } catch (error) {
    if (error instanceof RowProblem) return error.message;
    throw error;
  }
  return 'the list in its first record is empty';
}
