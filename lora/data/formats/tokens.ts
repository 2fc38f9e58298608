/**
 * Reads the two formats in which a record says which tokens are trained: token ids with labels, and text
 * segments.
 */
import type { ExampleBody, Segment } from '../examples.ts';
import { IGNORED_LABEL } from '../row.ts';
import { type Fields, isObject, RowProblem } from './fields.ts';

/**
 * Reads `input_ids`, and `labels` and `attention_mask` if the record has them. A label has the same index as its token.
 * The label −100 marks an unsupervised token, and a 0 in the mask marks padding.
 */
export function readTokens(fields: Fields): ExampleBody {
  const ids = integers(fields.list('input_ids'), 'input_ids');
  const given = fields.optionalList('labels');
  const labels = given === null ? [...ids] : integers(given, 'labels');
  const mask = fields.optionalList('attention_mask') ?? ids.map(() => 1);
  if (labels.length !== ids.length || mask.length !== ids.length) {
    const lengths = `${ids.length} ids, ${labels.length} labels, ${mask.length} mask entries`;
    throw new RowProblem('ROW_TOKENS', `lengths differ: ${lengths}`);
  }
  for (const [i, label] of labels.entries()) {
    if (label === IGNORED_LABEL || label === ids[i]) continue;
    const reason = `label ${i} is ${label}, but the token is ${ids[i]}; labels must not be shifted`;
    throw new RowProblem('ROW_TOKENS', reason);
  }
  const kept = ids.map((_, i) => i).filter((i) => mask[i] !== 0);
  if (kept.length === 0) throw new RowProblem('ROW_EMPTY', 'there are no tokens');
  return { kind: 'tokens', ids: kept.map((i) => ids[i]!), labels: kept.map((i) => labels[i]!) };
}

/** Reads `segments`, a list of `{label: true | false, text}`. */
export function readSegments(fields: Fields): ExampleBody {
  const segments = fields.list('segments').map((item, i): Segment => {
    if (isObject(item) && typeof item.label === 'boolean' && typeof item.text === 'string') {
      return { text: item.text, trained: item.label };
    }
    throw new RowProblem('ROW_FIELD', `segment ${i + 1} is not {"label": true or false, "text": …}`);
  });
  if (!segments.some(({ trained, text }) => trained && text !== '')) {
    throw new RowProblem('ROW_EMPTY', 'no segment is trained');
  }
  return { kind: 'segments', segments };
}

function integers(values: readonly unknown[], field: string): number[] {
  for (const [i, value] of values.entries()) {
    if (
      Number.isInteger(value) &&
      ((value as number) >= 0 || (value === IGNORED_LABEL && field === 'labels'))
    )
      continue;
    throw new RowProblem('ROW_TOKENS', `${field} ${i} is ${String(value).slice(0, 40)}, not a token`);
  }
  return values as number[];
}
