import { usageError } from '../errors.ts';

/**
 * Parses arguments of the form KEY=VALUE. Values are read as YAML, so that numbers, lists and true or false get their types.
 * @throws SwarmError USAGE
 */
export async function keyValues(texts: readonly string[]): Promise<Record<string, unknown>> {
  const { parse } = await import('yaml');
  const values: Record<string, unknown> = {};
  for (const text of texts) {
    const at = text.indexOf('=');
    const key = text.slice(0, at);
    if (at < 1)
      throw usageError(`"${text}" is not of the form KEY=VALUE`, 'write for example rounds.count=20');
    if (Object.hasOwn(values, key)) throw usageError(`${key} is given twice`, 'give each key once');
    try {
      values[key] = parse(text.slice(at + 1));
    } catch {
      throw usageError(`the value of ${key} is not YAML`, 'write the value as in a job file');
    }
  }
  return values;
}
