import { Float, floatText, isDictionary, isList, type PythonValue } from './values.ts';

/** Python's `json.dumps(value, indent=indent, ensure_ascii=False)`. @param indent null for one line */
export function dumps(value: PythonValue, indent: number | null = null, depth = 0): string {
  if (value instanceof Float) return floatText(value.value);
  const isContainer = isList(value) || isDictionary(value);
  if (!isContainer) return JSON.stringify(value);
  const items = isList(value)
    ? value.map((item) => dumps(item, indent, depth + 1))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${dumps(item, indent, depth + 1)}`);
  const [open, close] = isList(value) ? ['[', ']'] : ['{', '}'];
  if (items.length === 0) return open + close;
  if (indent === null) return `${open}${items.join(', ')}${close}`;
  const line = (level: number) => `\n${' '.repeat(indent * level)}`;
  return `${open}${line(depth + 1)}${items.join(`,${line(depth + 1)}`)}${line(depth)}${close}`;
}
