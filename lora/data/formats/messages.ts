/** Conversations in the formats of OpenAI and Hugging Face (`messages`) and of ShareGPT (`conversations`). */
import type { ExampleBody, Message } from '../examples.ts';
import {
  type Columns,
  describe,
  type Fields,
  isObject,
  listOf,
  RowProblem,
  type RowValue,
} from './fields.ts';

/** Usual names of the column that holds a conversation. */
export const CONVERSATION_COLUMNS = ['messages', 'conversations', 'conversation'];

/** Roles in ShareGPT data. `function_call` is a turn of the assistant; `observation` is a tool's answer. */
const SHAREGPT_ROLES: ReadonlyMap<string, string> = new Map([
  ['human', 'user'],
  ['user', 'user'],
  ['gpt', 'assistant'],
  ['chatgpt', 'assistant'],
  ['assistant', 'assistant'],
  ['system', 'system'],
  ['tool', 'tool'],
  ['observation', 'tool'],
  ['function_call', 'assistant'],
]);

/** Keys of a message that hold its role and its text. */
export interface MessageKeys {
  role: string;
  content: string;
}

export function messageKeys(columns: Columns, style: 'messages' | 'sharegpt'): MessageKeys {
  const usual =
    style === 'messages' ? { role: 'role', content: 'content' } : { role: 'from', content: 'value' };
  return { role: columns.role ?? usual.role, content: columns.content ?? usual.content };
}

/** Returns whether a value is a conversation with these keys, judging by its first message. */
export function isConversation(value: unknown, { role, content }: MessageKeys): boolean {
  const first = listOf(value)?.[0];
  return isObject(first) && typeof first[role] === 'string' && (content in first || 'tool_calls' in first);
}

/**
 * Returns the column whose value looks like a conversation with other keys, and these keys; null if there is none. Columns
 * with a usual name of conversations come first.
 */
export function conversationWithOtherKeys(
  row: RowValue,
  columns: Columns,
): { column: string; keys: readonly string[] } | null {
  // These columns hold lists of objects too.
  const others = ['segments', 'tools'];
  const wanted =
    columns.messages === undefined ? [...CONVERSATION_COLUMNS, ...Object.keys(row)] : [columns.messages];
  for (const column of wanted.filter((name) => !others.includes(name))) {
    const first = listOf(row[column])?.[0];
    const isKnown = (['messages', 'sharegpt'] as const).some((style) => {
      const { role, content } = messageKeys(columns, style);
      return isObject(first) && role in first && content in first;
    });
    if (isObject(first) && !isKnown) return { column, keys: Object.keys(first) };
  }
  return null;
}

/** Reads a record with a conversation. @throws RowProblem ROW_FIELD, ROW_MESSAGE, ROW_ROLE, ROW_EMPTY */
export function readMessages(fields: Fields, keys: MessageKeys, style: 'messages' | 'sharegpt'): ExampleBody {
  const messages = messagesOf(fields.list('messages', CONVERSATION_COLUMNS), keys, style);
  const system = fields.optionalText('system');
  if (system !== null && messages[0]?.role !== 'system')
    messages.unshift({ role: 'system', content: system });
  if (messages.length === 0) throw new RowProblem('ROW_EMPTY', 'the conversation has no messages');
  const tools = fields.optionalList('tools');
  return { kind: 'messages', messages, ...(tools && tools.length > 0 && { tools }) };
}

/** @throws RowProblem ROW_MESSAGE, ROW_ROLE, ROW_EMPTY */
export function messagesOf(
  list: readonly unknown[],
  keys: MessageKeys,
  style: 'messages' | 'sharegpt',
): Message[] {
  return list.map((item, i) => {
    if (!isObject(item))
      throw new RowProblem('ROW_MESSAGE', `message ${i + 1} is ${describe(item)}, not an object`);
    const read = style === 'messages' ? message(item, keys, i + 1) : sharegpt(item, keys, i + 1);
    if (isEmptyAnswer(read)) {
      throw new RowProblem('ROW_EMPTY', `message ${i + 1}, an answer of the assistant, is empty`);
    }
    return read;
  });
}

/**
 * Returns whether a message is an answer without content, from which a model would learn to say nothing. An answer may
 * consist of tool calls or of another text, such as its reasoning. An answer of weight 0 is not trained.
 */
function isEmptyAnswer({ role, content, weight, name: _, ...more }: Message): boolean {
  if (role !== 'assistant' || weight === 0 || content.trim() !== '') return false;
  return !Object.values(more).some(
    (value) => Array.isArray(value) || (typeof value === 'string' && value !== ''),
  );
}

function message(item: RowValue, keys: MessageKeys, number: number): Message {
  const role = item[keys.role];
  if (typeof role !== 'string' || role === '') {
    throw new RowProblem('ROW_MESSAGE', `message ${number} has no role ("${keys.role}")`);
  }
  const { [keys.role]: _, [keys.content]: content, role: __, content: ___, ...rest } = item;
  // Table formats such as Parquet have every key in every record, so null means that the key was absent.
  const more = Object.fromEntries(
    Object.entries(rest).filter(([, value]) => value !== null && value !== undefined),
  );
  if (Array.isArray(more.tool_calls) && more.tool_calls.length === 0) delete more.tool_calls;
  return { role, content: textOf(content, 'tool_calls' in more, keys, number), ...more };
}

function sharegpt(item: RowValue, keys: MessageKeys, number: number): Message {
  const from = item[keys.role];
  const role = typeof from === 'string' ? SHAREGPT_ROLES.get(from) : undefined;
  if (role === undefined) {
    const known = [...SHAREGPT_ROLES.keys()].join(', ');
    const found = typeof from === 'string' ? `the role "${from.slice(0, 40)}"` : 'no role';
    throw new RowProblem('ROW_ROLE', `message ${number} has ${found}; the known roles are ${known}`);
  }
  const plain = message({ ...item, [keys.role]: role }, keys, number);
  const calls = from === 'function_call' ? toolCalls(plain.content) : null;
  return calls === null ? plain : { ...plain, content: '', tool_calls: calls };
}

/** Converts `{"name": …, "arguments": …}`, or a list of them, to OpenAI's tool calls. Returns null for other texts. */
function toolCalls(text: string): unknown[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  const calls = Array.isArray(value) ? value : [value];
  if (!calls.every((call) => isObject(call) && typeof call.name === 'string')) return null;
  return calls.map((call: RowValue) => ({
    type: 'function',
    function: { name: call.name, arguments: call.arguments ?? {} },
  }));
}

/** Returns the text of a message, with text parts joined. @throws RowProblem ROW_MESSAGE for images and other parts */
function textOf(content: unknown, calls: boolean, keys: MessageKeys, number: number): string {
  if (typeof content === 'string') return content;
  if ((content === null || content === undefined) && calls) return '';
  if (Array.isArray(content)) {
    return content
      .map((part) => {
        if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text;
        const kind = isObject(part) ? `of type "${String(part.type).slice(0, 40)}"` : describe(part);
        throw new RowProblem('ROW_MESSAGE', `message ${number} has a part ${kind}; only text is supported`);
      })
      .join('');
  }
  const found = content === null || content === undefined ? 'has no text' : `holds ${describe(content)}`;
  throw new RowProblem('ROW_MESSAGE', `message ${number} ${found} in "${keys.content}"`);
}
