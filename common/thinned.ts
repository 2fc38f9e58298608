/**
 * Returns at most `count` items of a list, spread evenly over it. The first and the last item stay.
 * @param count at least 2
 */
export function thinned<T>(items: readonly T[], count: number): readonly T[] {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, i) => items[Math.round((i * (items.length - 1)) / (count - 1))]!);
}
