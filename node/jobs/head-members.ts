import type { Head } from '../../protocol/messages.ts';

const membersOfHeads = new WeakMap<Head, ReadonlySet<string>>();

/** Returns whether a head names a peer as the author of a merged update, or assigns work to it. */
export function namesMember({ head, peer }: { head: Head | null; peer: string }): boolean {
  if (head === null) return false;
  let members = membersOfHeads.get(head);
  if (members === undefined) {
    members = new Set([...head.included, ...head.assignments].map((member) => member.peer));
    membersOfHeads.set(head, members);
  }
  return members.has(peer);
}
