import { basename, dirname } from 'node:path';

/** A model on a hub, as people write it: `org/name` or `org/name@revision`. */
export interface HubReference {
  readonly name: string;
  /** Branch, tag or commit. */
  readonly revision: string;
}

/** Hugging Face's rules for names of repositories, at most 96 characters a part. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}\/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/;
/** Names of Git references: no spaces, no control characters, none of ~^:?*[\ and no leading dash. */
const REVISION = /^(?!-)[^\s~^:?*[\\]{1,200}$/;
const COMMIT = /^[0-9a-f]{40}$/;
const DEFAULT_REVISION = 'main';

/** The reference that a text is, or null: paths that begin with a dot, a slash or a tilde never are one. */
export function parseHubReference(text: string): HubReference | null {
  const at = text.indexOf('@');
  const name = at === -1 ? text : text.slice(0, at);
  const revision = at === -1 ? DEFAULT_REVISION : text.slice(at + 1);
  const wrong =
    !NAME.test(name) ||
    !REVISION.test(revision) ||
    /\p{Cc}/u.test(revision) ||
    /--|\.\.|\.git$|\.$/.test(name);
  // It becomes a path in the cache and in a URL.
  if (wrong || revision.split('/').some((part) => part === '' || part.startsWith('.'))) return null;
  return { name, revision };
}

export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Folder of a model in the cache that all Hugging Face tools share. */
export function repositoryFolder(name: string): string {
  return `models--${name.replaceAll('/', '--')}`;
}

export interface HubOrigin {
  readonly name: string;
  /** The commit. */
  readonly revision: string;
}

/** What a folder of that cache is a copy of, whoever made it; null for any other folder. */
export function hubOrigin(dir: string): HubOrigin | null {
  const revision = basename(dir);
  const snapshots = dirname(dir);
  const [kind, ...parts] = basename(dirname(snapshots)).split('--');
  if (kind !== 'models' || parts.length !== 2 || basename(snapshots) !== 'snapshots') return null;
  return isCommit(revision) ? { name: parts.join('/'), revision } : null;
}
