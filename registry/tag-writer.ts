import { registryError, tagUnknown } from './errors.ts';
import { isTag, LATEST, labelOf } from './reference.ts';
import { type TagChange, type TagTable, tagStack } from './store/tags.ts';
import type { VersionTable } from './store/versions.ts';

/** The author, time and reason of a tag's move. */
export type TagMove = Pick<TagChange, 'author' | 'at' | 'reason'>;

/** Changes tags. Every method must be called inside a transaction of the database. */
export class TagWriter {
  readonly #tags: TagTable;
  readonly #versions: VersionTable;

  constructor(deps: { tags: TagTable; versions: VersionTable }) {
    this.#tags = deps.tags;
    this.#versions = deps.versions;
  }

  /** Moves a tag. If the tag already names the version, the log gets no new line. @throws SwarmError TAG_NAME */
  set({ name, number, tag }: { name: string; number: number; tag: string }, move: TagMove): TagChange {
    if (!isTag(tag)) {
      const message = `"${tag.slice(0, 80)}" cannot be a tag: a tag has 1 to 64 of the characters a-z 0-9 . _ -, and is not a version such as v1`;
      throw registryError('TAG_NAME', message, { tag: tag.slice(0, 80) });
    }
    const from = this.#tags.current(name, tag);
    const change: TagChange = { tag, kind: 'set', from, to: number, ...move };
    if (from !== number) this.#tags.append(name, change);
    return change;
  }

  /** @throws SwarmError TAG_NAME, TAG_UNKNOWN */
  delete({ name, tag }: { name: string; tag: string }, move: TagMove): TagChange {
    if (tag === LATEST) throw registryError('TAG_NAME', 'the tag "latest" cannot be deleted', { tag });
    const change: TagChange = { tag, kind: 'delete', from: this.#current(name, tag), to: null, ...move };
    this.#tags.append(name, change);
    return change;
  }

  /** @throws SwarmError TAG_UNKNOWN, ROLLBACK_EMPTY */
  rollback({ name, tag }: { name: string; tag: string }, move: TagMove): TagChange {
    const from = this.#current(name, tag);
    const earlier = tagStack(this.#tags.log(name, tag)).slice(0, -1);
    const to = earlier.findLast(
      (number) => number !== from && this.#versions.get(name, number)?.removedAt === null,
    );
    if (to === undefined) {
      const message = `${name}:${tag} has named no other version before ${labelOf({ name, number: from })}`;
      const next = `"lora-swarm adapter tag ${name}" shows the changes of the tags`;
      throw registryError('ROLLBACK_EMPTY', message, { name, tag, version: from }, { next });
    }
    const change: TagChange = { tag, kind: 'rollback', from, to, ...move };
    this.#tags.append(name, change);
    return change;
  }

  /**
   * Removes all tags from a version that is being removed. The tag `latest` moves to the newest version that is left.
   * @throws SwarmError VERSION_TAGGED if tags other than `latest` name the version, and `force` is false
   */
  leave(
    version: { name: string; number: number },
    { force, ...move }: { force: boolean; author: string; at: number },
  ): void {
    const { name, number } = version;
    const tags = [...this.#tags.all(name)].filter(([, at]) => at === number).map(([tag]) => tag);
    const own = tags.filter((tag) => tag !== LATEST);
    if (own.length > 0 && !force) {
      const label = labelOf(version);
      const message = `${label} has the tag ${own.join(', ')}`;
      throw registryError('VERSION_TAGGED', message, { version: label, tags: own });
    }
    const reason = `removed ${labelOf(version)}`;
    for (const tag of own)
      this.#tags.append(name, { tag, kind: 'delete', from: number, to: null, ...move, reason });
    if (!tags.includes(LATEST)) return;
    const next = this.#versions.ofName(name).findLast((v) => v.removedAt === null && v.number !== number);
    const change =
      next === undefined ? { kind: 'delete' as const, to: null } : { kind: 'set' as const, to: next.number };
    this.#tags.append(name, { tag: LATEST, from: number, ...change, ...move, reason });
  }

  #current(name: string, tag: string): number {
    const number = this.#tags.current(name, tag);
    if (number !== null) return number;
    throw tagUnknown(name, tag);
  }
}
