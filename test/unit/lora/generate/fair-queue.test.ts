import { describe, expect, it } from 'vitest';
import { FairQueue } from '../../../../lora/generate/fair-queue.ts';

function drain(queue: FairQueue<string>): string[] {
  const items: string[] = [];
  for (let item = queue.shift(); item !== undefined; item = queue.shift()) items.push(item);
  return items;
}

describe('a fair queue', () => {
  it('serves the lines of all clients in turn', () => {
    const queue = new FairQueue<string>();
    for (const item of ['a1', 'a2', 'a3']) queue.push('a', item);
    for (const item of ['b1', 'b2']) queue.push('b', item);
    expect(queue.size).toBe(5);
    expect(queue.peek()).toBe('a1');
    expect(drain(queue)).toEqual(['a1', 'b1', 'a2', 'b2', 'a3']);
    expect(queue.size).toBe(0);
    expect(queue.peek()).toBeUndefined();
  });

  it('serves an item that was put back before all others', () => {
    const queue = new FairQueue<string>();
    for (const item of ['a1', 'a2']) queue.push('a', item);
    queue.push('b', 'b1');
    const first = queue.shift()!;
    queue.putBack('a', first);
    expect(queue.size).toBe(3);
    expect(drain(queue)).toEqual(['a1', 'b1', 'a2']);
  });

  it('removes the items that match', () => {
    const queue = new FairQueue<string>();
    for (const item of ['a1', 'a2', 'a3']) queue.push('a', item);
    queue.push('b', 'b1');
    expect(queue.removeWhere((item) => item === 'a2' || item === 'b1')).toEqual(['a2', 'b1']);
    expect(queue.removeWhere(() => false)).toEqual([]);
    expect(queue.size).toBe(2);
    expect(drain(queue)).toEqual(['a1', 'a3']);
  });
});
