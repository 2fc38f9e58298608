import type { ExampleBody, Message } from '../examples.ts';
import { type Fields, listOf, RowProblem } from './fields.ts';
import { messagesOf } from './messages.ts';

export function readTextRow(fields: Fields): ExampleBody {
  return { kind: 'text', text: fields.text('text') };
}

/** Reads `prompt` and `completion`. Both are text, or both are lists of messages. */
export function readCompletion(fields: Fields): ExampleBody {
  const side = (field: 'prompt' | 'completion'): string | Message[] => {
    const list = listOf(fields.value(field));
    if (list === null || typeof list[0] !== 'object') return fields.text(field);
    return messagesOf(list, { role: 'role', content: 'content' }, 'messages');
  };
  const prompt = side('prompt');
  const completion = side('completion');
  if (typeof prompt !== typeof completion) {
    throw new RowProblem(
      'ROW_FIELD',
      'one of prompt and completion is a text and the other a list of messages; both must be of the same kind',
    );
  }
  if (completion.length === 0 || (typeof completion === 'string' && completion.trim() === '')) {
    throw new RowProblem('ROW_EMPTY', 'the completion is empty');
  }
  const tools = fields.optionalList('tools');
  return { kind: 'completion', prompt, completion, ...(tools && tools.length > 0 && { tools }) };
}

/**
 * Reads a record in Alpaca format. `instruction` and `output` are required. `input`, `system` and `history` are
 * optional.
 */
export function readInstruction(fields: Fields): ExampleBody {
  const output = fields.text('output');
  if (output.trim() === '') throw new RowProblem('ROW_EMPTY', 'the output is empty');
  const history = (fields.optionalList('history') ?? []).map((turn, i): [string, string] => {
    if (Array.isArray(turn) && turn.length === 2 && turn.every((text) => typeof text === 'string')) {
      return [turn[0], turn[1]];
    }
    throw new RowProblem('ROW_FIELD', `turn ${i + 1} of the history is not a pair of texts`);
  });
  return {
    kind: 'instruction',
    instruction: fields.text('instruction'),
    input: fields.optionalText('input') ?? '',
    output,
    system: fields.optionalText('system'),
    history,
  };
}
