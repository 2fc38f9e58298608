import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../../common/errors.ts';
import { writeDurably } from '../../common/files/durable.ts';
import type { Logger } from '../../common/logger.ts';
import { INVITE_CHARACTERS } from '../../protocol/access/invite.ts';
import { digestSchema } from '../../protocol/ids.ts';

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
/** Maximum number of joined jobs that a node remembers in its home. A new job replaces the oldest. */
const JOINED_JOBS = 64;

const joinedJobSchema = z.strictObject({
  ...{ addresses: knownJobSchema.shape.addresses, token: knownJobSchema.shape.token },
  job: digestSchema,
  name: z.string().max(256),
});
const fileSchema = z.strictObject({
  version: z.literal(1),
  jobs: z.array(knownJobSchema).max(KNOWN_JOBS),
  joined: z.array(joinedJobSchema).max(JOINED_JOBS).default([]),
});
type File = z.infer<typeof fileSchema>;

/** An invite that the node of a home keeps. */
export type KnownJob = Readonly<z.infer<typeof knownJobSchema>>;

/** A job that the node of a home has joined, with the invite that admits the node. The job may have ended. */
export type JoinedJobRecord = Readonly<z.infer<typeof joinedJobSchema>>;

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

  /** Adds the invite of a job that the node has joined. @param joined digest and name of the job */
  remember(invite: Invite, joined: { job: string; name: string }): void {
    const { addresses, job, invite: token, weight = 1 } = invite;
    const { name } = joined;
    const known = { addresses: [...addresses], job, token, weight, name };
    const record = { addresses: known.addresses, token, ...joined };
    this.#change(({ jobs, joined: before }) => ({
      jobs: [...without(jobs, invite), known].slice(-KNOWN_JOBS),
      joined: [...without(before, { addresses, job: joined.job }), record].slice(-JOINED_JOBS),
    }));
  }

  /** Removes an invite that the node no longer needs, for example because its job has ended. */
  forget(invite: Invite): void {
    this.#change(({ jobs, joined }) => ({ jobs: without(jobs, invite), joined }));
  }

  /** Resolves when all changes are on the disk. */
  saved(): Promise<void> {
    return this.#writing;
  }

  #change(change: (file: Omit<File, 'version'>) => Omit<File, 'version'>): void {
    this.#writing = this.#writing.then(async () => {
      try {
        const before = await read(this.#path);
        const after = { version: before.version, ...change(before) };
        if (JSON.stringify(after) === JSON.stringify(before)) return;
        await write(this.#path, after);
      } catch (error) {
        this.#log.warn({ path: this.#path, reason: messageOf(error) }, 'known-jobs-not-saved');
      }
    });
  }
}

/**
 * Keeps invites for the next start of a node, readable by their owner only. Invites that the home already has stay.
 * @param invites the newest last
 */
export async function keepInvites(
  home: string,
  invites: readonly (Omit<KnownJob, 'name' | 'addresses'> & Pick<Invite, 'addresses'>)[],
): Promise<void> {
  const file = await read(pathOf(home));
  let { jobs } = file;
  for (const { addresses, job, token, weight } of invites) {
    const same = { addresses, job };
    const [before] = jobs.filter((one) => !without([one], same).includes(one));
    const name = before?.name ?? null;
    jobs = [...without(jobs, same), { addresses: [...addresses], job, token, weight, name }].slice(
      -KNOWN_JOBS,
    );
  }
  await write(pathOf(home), { ...file, jobs });
}

/** Returns the invites that a home keeps: invites of jobs that have not ended, the newest last. */
export async function readKnownJobs(home: string): Promise<KnownJob[]> {
  return (await read(pathOf(home))).jobs;
}

/**
 * Returns the kept invites whose jobs a node with these invites does not join. An invite without a job may lead to any job of
 * its coordinator, so it counts as an invite for all of them.
 */
export function otherJobs(
  known: readonly KnownJob[],
  invites: readonly Pick<Invite, 'addresses' | 'job'>[],
): KnownJob[] {
  return known.filter((one) =>
    invites.every(
      ({ addresses, job }) =>
        without([one], { addresses, job: one.job }).length > 0 ||
        (job !== null && one.job !== null && job !== one.job),
    ),
  );
}

/** Returns the jobs that the node of a home has joined, also those that have ended. The newest comes last. */
export async function readJoinedJobs(home: string): Promise<JoinedJobRecord[]> {
  return (await read(pathOf(home))).joined;
}

/** Returns the name of the job that the node of a home last joined with each invite; null if it has joined none. */
export async function readKnownNames(
  home: string,
  invites: readonly Pick<Invite, 'addresses' | 'job'>[],
): Promise<(string | null)[]> {
  const { jobs, joined } = await read(pathOf(home));
  return invites.map((invite) => {
    const known = [...joined, ...jobs].findLast((one) => without([one], invite).length === 0);
    return known?.name ?? null;
  });
}

function pathOf(home: string): string {
  return join(home, 'known-jobs.json');
}

/**
 * Reads the file of known jobs. A missing or damaged file counts as a file without jobs, so the user has to give the
 * invite again.
 */
async function read(path: string): Promise<File> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return { version: 1, jobs: [], joined: [] };
  }
}

function write(path: string, file: File): Promise<void> {
  return writeDurably(path, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
}

function without<T extends Pick<KnownJob, 'addresses' | 'job'>>(
  jobs: readonly T[],
  { addresses, job }: Pick<Invite, 'addresses' | 'job'>,
): T[] {
  const coordinators = new Set(addresses.map(peerOf));
  return jobs.filter(
    (one) => one.job !== job || !one.addresses.some((address) => coordinators.has(peerOf(address))),
  );
}

function peerOf(address: string): string {
  return address.slice(address.lastIndexOf('/') + 1);
}
