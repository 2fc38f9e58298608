import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { KeptJob } from './kept-jobs.ts';
import { NodeStore } from './node-store.ts';

/** The jobs that the node of this machine has joined. */
export class OwnJobs {
  /** The job that the node joined last comes last. */
  readonly all: readonly KeptJob[];

  constructor(all: readonly KeptJob[]) {
    this.all = all;
  }

  /** Reads the jobs from the home of a node, which may be running. Returns no jobs if no node has used the home. */
  static read(home: string | undefined): OwnJobs {
    const path = home === undefined ? null : databaseOf(home);
    if (path === null || !existsSync(path)) return new OwnJobs([]);
    const store = NodeStore.read(path);
    try {
      return new OwnJobs(store.keptJobs.all);
    } finally {
      store.close();
    }
  }

  find(job: string): KeptJob | null {
    return this.all.find((one) => one.job === job) ?? null;
  }

  /** Returns the digest of the only job; null if there are several or none. */
  only(): string | null {
    return this.all.length === 1 ? this.all[0]!.job : null;
  }
}

/** Returns the path of a node's database. */
export function databaseOf(home: string): string {
  return join(home, 'node.sqlite');
}
