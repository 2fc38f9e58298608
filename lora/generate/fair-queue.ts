/**
 * A queue for each client. The queues take turns: each gives one item. So no client has to wait for all items of
 * another client.
 */
export class FairQueue<Item> {
  /** The queues by client. The first queue is served next. */
  readonly #lines = new Map<string, Item[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(client: string, item: Item): void {
    const line = this.#lines.get(client);
    if (line === undefined) this.#lines.set(client, [item]);
    else line.push(item);
    this.#size++;
  }

  /** Puts back an item that was served too early, and makes it the next item. */
  putBack(client: string, item: Item): void {
    const line = this.#lines.get(client) ?? [];
    const others = [...this.#lines].filter(([name]) => name !== client);
    this.#lines.clear();
    this.#lines.set(client, [item, ...line]);
    for (const [name, items] of others) this.#lines.set(name, items);
    this.#size++;
  }

  /** Returns the next item without removing it. */
  peek(): Item | undefined {
    return this.#lines.values().next().value?.[0];
  }

  /** Removes and returns the next item. The queue of its client is then served last. */
  shift(): Item | undefined {
    const first = this.#lines.entries().next().value;
    if (first === undefined) return undefined;
    const [client, line] = first;
    const item = line.shift();
    this.#lines.delete(client);
    if (line.length > 0) this.#lines.set(client, line);
    this.#size--;
    return item;
  }

  /** Removes and returns all items that match. */
  removeWhere(matches: (item: Item) => boolean): Item[] {
    const removed: Item[] = [];
    for (const [client, line] of this.#lines) {
      const kept = line.filter((item) => !matches(item));
      if (kept.length === line.length) continue;
      removed.push(...line.filter(matches));
      if (kept.length > 0) this.#lines.set(client, kept);
      else this.#lines.delete(client);
    }
    this.#size -= removed.length;
    return removed;
  }
}
