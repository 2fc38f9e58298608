import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeDurably } from '../../common/durable.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { digestSchema } from '../../protocol/ids.ts';
import { INVITE_CHARACTERS } from '../../protocol/invite.ts';

/** Maximum number of invites that a node remembers in its home. A new invite replaces the oldest. */
const KNOWN_JOBS = 16;

const knownJobSchema = z.strictObject({
  /** Multiaddrs of the coordinator. */
  addresses: z.array(z.string().max(512)).min(1).max(64),
  /** Digest of the job that the invite names; null if the coordinator chooses the job. */
  job: digestSchema.nullable(),
  /** Token of the invite; null for open jobs. */
  token: z.string().max(INVITE_CHARACTERS).nullable(),
  weight: z.number().positive(),
  /** Name of the job that the node last joined with the invite; null if it has joined none yet. */
  name: z.string().max(256).nullable(),
});
const fileSchema = z.strictObject({ version: z.literal(1), jobs: z.array(knownJobSchema).max(KNOWN_JOBS) });

/** An invite that the node of a home keeps. */
export type KnownJob = Readonly<z.infer<typeof knownJobSchema>>;

interface Invite {
  readonly addresses: readonly string[];
  readonly job: string | null;
  /** Token of the invite; null if it has none. */
  readonly invite: string | null;
  readonly weight?: number | undefined;
}

/**
 * Keeps the invites with which a node has joined jobs, so that the node can join them again after a restart. The file can
 * be read by its owner only, because an invite contains a token.
 */
export class KnownJobs {
  readonly #path: string;
  readonly #log: Logger;
  #writing: Promise<void> = Promise.resolve();

  constructor({ home }: { home: string }, deps: { log: Logger }) {
    this.#path = pathOf(home);
    this.#log = deps.log;
  }

  /** Adds the invite of a job that the node has joined. @param name name of the job */
  remember(invite: Invite, name: string): void {
    const { addresses, job, invite: token, weight = 1 } = invite;
    const known: KnownJob = { addresses: [...addresses], job, token, weight, name };
    this.#change((jobs) => [...without(jobs, invite), known].slice(-KNOWN_JOBS));
  }

  /** Removes an invite that the node no longer needs. */
  forget(invite: Invite): void {
    this.#change((jobs) => without(jobs, invite));
  }

  /** Resolves when all changes are on the disk. */
  saved(): Promise<void> {
    return this.#writing;
  }

  #change(change: (jobs: KnownJob[]) => KnownJob[]): void {
    this.#writing = this.#writing.then(async () => {
      try {
        const before = await read(this.#path);
        const jobs = change(before);
        if (JSON.stringify(jobs) === JSON.stringify(before)) return;
        await write(this.#path, jobs);
      } catch (error) {
        this.#log.warn({ path: this.#path, reason: messageOf(error) }, 'known-jobs-not-saved');
      }
    });
  }
}

/**
 * Keeps invites for the next start of a node, readable by their owner only. The invites that the home has already stay.
 * @param invites the newest last
 */
export async function keepInvites(
  home: string,
  invites: readonly (Omit<KnownJob, 'name' | 'addresses'> & Pick<Invite, 'addresses'>)[],
): Promise<void> {
  let jobs = await readKnownJobs(home);
  for (const { addresses, job, token, weight } of invites) {
    const same = { addresses, job };
    const [before] = jobs.filter((one) => !without([one], same).includes(one));
    const name = before?.name ?? null;
    jobs = [...without(jobs, same), { addresses: [...addresses], job, token, weight, name }].slice(
      -KNOWN_JOBS,
    );
  }
  await write(pathOf(home), jobs);
}

/** Deletes all invites of a home. @returns path of the deleted file; null if the home has no invites */
export async function deleteInvites(home: string): Promise<string | null> {
  const path = pathOf(home);
  if (!existsSync(path)) return null;
  await rm(path);
  return path;
}

/** Returns the invites that a home keeps: those of jobs that have not ended. The newest comes last. */
export function readKnownJobs(home: string): Promise<KnownJob[]> {
  return read(pathOf(home));
}

function pathOf(home: string): string {
  return join(home, 'known-jobs.json');
}

/**
 * Reads the file of known jobs. A missing or damaged file counts as a file without jobs, so the user has to give the
 * invite again.
 */
async function read(path: string): Promise<KnownJob[]> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(path, 'utf8'))).jobs;
  } catch {
    return [];
  }
}

function write(path: string, jobs: readonly KnownJob[]): Promise<void> {
  return writeDurably(path, `${JSON.stringify({ version: 1, jobs }, null, 2)}\n`, { mode: 0o600 });
}

function without(
  jobs: readonly KnownJob[],
  { addresses, job }: Pick<Invite, 'addresses' | 'job'>,
): KnownJob[] {
  const coordinators = new Set(addresses.map(peerOf));
  return jobs.filter(
    (one) => one.job !== job || !one.addresses.some((address) => coordinators.has(peerOf(address))),
  );
}

function peerOf(address: string): string {
  return address.slice(address.lastIndexOf('/') + 1);
}
