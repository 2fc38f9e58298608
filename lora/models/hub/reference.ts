import { basename, dirname } from 'node:path';

/** A model on a hub, written `org/name` or `org/name@revision`. */
export interface HubReference {
  readonly name: string;
  /** Name of a branch or tag, or a commit. */
  readonly revision: string;
}

/** Hugging Face's rules for repository names; at most 96 characters per part. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}\/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/;
/** Names of Git references: no spaces, no control characters, none of ~^:?*[\ and no leading dash. */
const REVISION = /^(?!-)[^\s~^:?*[\\]{1,200}$/;
const COMMIT = /^[0-9a-f]{40}$/;
const DEFAULT_REVISION = 'main';

/**
 * Parses a hub reference. Returns null if the text is not a hub reference, for example a path that begins with a dot, a
 * slash or a tilde.
 */
export function parseHubReference(text: string): HubReference | null {
  const at = text.indexOf('@');
  const name = at === -1 ? text : text.slice(0, at);
  const revision = at === -1 ? DEFAULT_REVISION : text.slice(at + 1);
  const wrong =
    !NAME.test(name) ||
    !REVISION.test(revision) ||
    /\p{Cc}/u.test(revision) ||
    /--|\.\.|\.git$|\.$/.test(name);
  // The revision becomes part of a path in the cache and of a URL, so no segment may be empty or begin with a dot.
  if (wrong || revision.split('/').some((part) => part === '' || part.startsWith('.'))) return null;
  return { name, revision };
}

export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Returns the name of a model's folder in the cache that all Hugging Face tools share. */
export function repositoryFolder(name: string): string {
  return `models--${name.replaceAll('/', '--')}`;
}

/** The model and the commit from which a folder of the cache was downloaded. */
export interface HubOrigin {
  readonly name: string;
  /** Commit of the model. */
  readonly revision: string;
}

/** Returns the origin of a snapshot folder of the shared cache; null for any other folder. */
export function hubOrigin(dir: string): HubOrigin | null {
  const revision = basename(dir);
  const snapshots = dirname(dir);
  const [kind, ...parts] = basename(dirname(snapshots)).split('--');
  if (kind !== 'models' || parts.length !== 2 || basename(snapshots) !== 'snapshots') return null;
  return isCommit(revision) ? { name: parts.join('/'), revision } : null;
}
