import { defineErrors, type SwarmError } from '../common/errors.ts';

export const registryError = defineErrors({
  BASE_UNKNOWN: { kind: 'usage', next: 'name the base with --model' },
  IMPORT_DAMAGED: { kind: 'failed', next: 'copy or download the files again' },
  IMPORT_NAME: { kind: 'conflict', next: 'choose a name for this registry with --name' },
  OCI_INVALID: { kind: 'failed', next: 'export the adapter again with "lora-swarm adapter export --oci"' },
  REFERENCE_INVALID: {
    kind: 'usage',
    next: 'write NAME, NAME:TAG, NAME:vN or NAME@DIGEST; "lora-swarm adapter list" shows all names',
  },
  SHARE_UNKNOWN: {
    kind: 'notFound',
    next: '"lora-swarm adapter share" lists the versions that daemons share',
  },
  RUN_MISSING: { kind: 'notFound', next: 'name the output folder of a run that has ended' },
  ROLLBACK_EMPTY: 'failed',
  TAG_NAME: { kind: 'usage', next: 'choose another tag' },
  TAG_UNKNOWN: 'notFound',
  TICKET_UNTRUSTED: { kind: 'failed', next: 'ask for a new ticket' },
  VERSION_DAMAGED: {
    kind: 'failed',
    next: 'add the adapter again from its folder, or use another version',
  },
  VERSION_NAME: { kind: 'usage', next: 'choose another name with --name' },
  VERSION_REMOVED: { kind: 'notFound', next: 'add the adapter again to restore it' },
  VERSION_TAGGED: { kind: 'conflict', next: 'move the tag first, or remove the version with --force' },
  VERSION_UNKNOWN: { kind: 'notFound', next: '"lora-swarm adapter list" shows the names and versions' },
});

/** Returns the error for a tag that an adapter does not have. */
export function tagUnknown(name: string, tag: string): SwarmError {
  const shown = tag.slice(0, 80);
  const next = `"lora-swarm adapter list ${name}" shows the tags`;
  return registryError('TAG_UNKNOWN', `${name} has no tag "${shown}"`, { name, tag: shown }, { next });
}
