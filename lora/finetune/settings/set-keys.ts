/**
 * Returns a copy of a job's settings in which some keys have new values.
 * @param changes new values by their keys, joined by dots, such as `rounds.count`
 */
export function setKeys(settings: object, changes: Readonly<Record<string, unknown>>): object {
  let changed: object = settings;
  for (const [key, value] of Object.entries(changes)) changed = withValue(changed, key.split('.'), value);
  return changed;
}

function withValue(target: unknown, path: readonly string[], value: unknown): object {
  const [key = '', ...rest] = path;
  const object: Readonly<Record<string, unknown>> =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  const before = Object.hasOwn(object, key) ? object[key] : undefined;
  return { ...object, [key]: rest.length === 0 ? value : withValue(before, rest, value) };
}
