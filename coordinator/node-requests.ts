import { isNewer } from '../protocol/job/head-order.ts';
import { JOBS_PER_COORDINATOR } from '../protocol/limits.ts';
import type { RpcResponse } from '../protocol/requests/rpc.ts';
import { VERSION_ROLL_BACKS } from '../protocol/version-manifest.ts';
import type { CoordinatorDeps } from './context.ts';
import { coordinatorError } from './errors.ts';
import { claimedUpdate } from './intake/header-checks.ts';
import type { JobRun } from './job-run.ts';
import { mayFetch } from './peers/blob-access.ts';
import type { Newcomers } from './peers/newcomers.ts';
import { byPriority } from './queue.ts';
import { contributionOf } from './record/contributions.ts';
import { RecordAnswers } from './record/record-answers.ts';
import { RecordQuotas } from './record/record-quotas.ts';
import type { KeptCheckpoints } from './recovery/kept-checkpoints.ts';
import type { KeptRemovals } from './recovery/kept-removals.ts';
import type { LaterHeads } from './recovery/later-heads.ts';
import type { Rechecks } from './recovery/rechecks.ts';
import { RemovalRecords } from './recovery/removal-records.ts';
import type { StartHolds } from './recovery/start-holds.ts';
import { isOver } from './round/job-phase.ts';

interface RequestDeps extends Pick<CoordinatorDeps, 'network' | 'store' | 'clock'> {
  /** The running jobs, by digest. */
  readonly runs: ReadonlyMap<string, JobRun>;
  readonly newcomers: Newcomers;
  readonly laterHeads: LaterHeads;
  readonly holds: StartHolds;
  readonly keptRemovals: KeptRemovals;
  readonly keptCheckpoints: KeptCheckpoints;
  readonly rechecks: Rechecks;
}

/**
 * Answers the requests of nodes, and serves the blobs of the jobs. Returns functions, each of which stops answering one
 * method.
 */
export function answerNodes({
  network,
  store,
  clock,
  runs,
  newcomers,
  laterHeads,
  holds,
  keptRemovals,
  keptCheckpoints,
  rechecks,
}: RequestDeps): (() => void)[] {
  const records = new RecordAnswers({ clock });
  const recordQuotas = new RecordQuotas('record', { clock, network });
  const figuresQuotas = new RecordQuotas('figures', { clock, network });
  const removalRecords = new RemovalRecords({ clock });
  const all = (): JobRun[] => [...runs.values()];
  const running = (job: string): JobRun => {
    const run = runs.get(job);
    if (run) return run;
    throw coordinatorError('JOB_UNKNOWN', `this coordinator does not run job ${job}`, { job });
  };
  const readable = (job: string, peer: string, what: string): JobRun => {
    const run = running(job);
    run.members.invites.checkNotRevoked(peer);
    if (run.mayRead(peer)) return run;
    throw coordinatorError('NOT_ADMITTED', `only peers that may read the job get its ${what}`);
  };
  network.reserveFor((peer) => all().some(({ members }) => members.list.has(peer)));
  network.serveBlobs((peer, digest) => mayFetch(peer, digest, { jobs: all(), store }));
  return [
    network.handle('jobs', async (peer, { invite }) => {
      const visible = byPriority(all()).filter(
        (run) => run.members.list.has(peer) || run.admits(peer, invite),
      );
      // A node without a named job joins the first open job. Jobs that are over come last, because the answer may not
      // have space for all jobs.
      const rank = ({ driver }: JobRun): number =>
        isOver(driver.state) ? 2 : driver.state.phase === 'queued' ? 1 : 0;
      const jobs = visible
        .sort((a, b) => rank(a) - rank(b))
        .map(({ context, driver }) => ({
          job: context.job,
          name: context.manifest.name,
          phase: driver.state.phase,
        }))
        .slice(0, JOBS_PER_COORDINATOR);
      return { jobs, others: visible.length < runs.size };
    }),
    network.handle('join', async (peer, { job, run, ...request }, { signal }) => {
      const { context, members, scorers, record, ledger, intake } = running(job);
      members.processes.checkJoining(peer, run);
      // Check the request before the wait, so that only nodes that may join wait in line. Members do not wait.
      if (members.checkJoin(peer, request) === 'newcomer') {
        await newcomers.wait(peer, signal).catch((error: unknown) => {
          members.countRefusal(error);
          throw error;
        });
      }
      // Note the peer before it becomes a member. `holds` counts only members, so a new node does not help to end a
      // hold. It cannot know a later head.
      holds.note(running(job), peer);
      members.join(peer, request);
      // Check the process of a new member only here, because `checkJoining` checks only peers that are
      // members already.
      members.processes.check(peer, run);
      keptCheckpoints.note(running(job), peer);
      scorers.note(peer, request.scores ?? false);
      const { manifest, admission } = context.stored;
      return {
        manifest,
        head: record.heads.newest.envelope,
        admission: admission.kind,
        role: members.list.get(peer)!.role,
        standing: ledger.standings.reportedTo(peer),
        delivered: intake.newestRoundOf(peer),
        keys: context.keys.message(),
      };
    }),
    network.handle('manifest', async (peer, { job, invite }) => {
      const { context, members, record } = running(job);
      members.admitReader(peer, invite);
      return { manifest: context.stored.manifest, head: record.heads.newest.envelope };
    }),
    network.handle('clock', async () => ({ at: clock.now() })),
    network.handle('leave', async (peer, { job, run }) => {
      running(job).members.leave(peer, run);
      return {};
    }),
    network.handle('head', async (peer, { job, known, run: runId, removals: kept }) => {
      const run = readable(job, peer, 'heads');
      run.members.processes.check(peer, runId);
      laterHeads.claims.note(run, peer, known ?? null);
      holds.note(run, peer);
      keptCheckpoints.note(run, peer);
      const isKeeper = kept !== undefined && run.members.list.has(peer);
      const isKnown = isKeeper && (await keptRemovals.note(run, peer, kept));
      // Check the access again, because the restored removals may include this member, or the job may have been started
      // again.
      const { record, context, members } = readable(job, peer, 'heads');
      const { head, envelope } = record.heads.newest;
      const since = members.processes.takeNotice(peer, runId);
      // If the member has a later head, this coordinator has lost records, perhaps also removals. The member must then
      // keep its own record of removals.
      const mayReplace = isKnown && !isNewer(known ?? head, head);
      const isBehind = mayReplace && kept < context.keys.removals;
      const removals = isBehind ? removalRecords.answer(context, peer) : null;
      return {
        head: isNewer(head, known ?? null) ? envelope : null,
        keys: context.keys.message(),
        ...(since !== null && { duplicateSince: since }),
        ...(removals !== null && { removals }),
      };
    }),
    network.handle('submit', async (peer, { update }) => {
      // If this coordinator does not run the job of the update, a job of which the sender is a member refuses the
      // update.
      const run =
        runs.get(claimedUpdate(update)?.job ?? '') ?? all().find(({ members }) => members.list.has(peer));
      if (!run) throw coordinatorError('wrong-job', "this coordinator does not run the update's job");
      const { receipt } = run.intake.receive(update, peer, { sealed: false });
      return { receipt: run.receipts.sign(await receipt) };
    }),
    network.handle('receipt', async (peer, { job, update }) => {
      const { members, receipts } = running(job);
      members.invites.checkNotRevoked(peer);
      return { receipt: receipts.find(peer, update) };
    }),
    network.handle('contribution', async (peer, { job }) => {
      const { members, contributions, record } = running(job);
      members.invites.checkNotRevoked(peer);
      if (!members.list.has(peer)) {
        throw coordinatorError(
          'NOT_ADMITTED',
          'only members of the job learn what they have contributed to it',
        );
      }
      const ranking = await contributions.upTo(record.checkpoint.checkpoint.round);
      return { contribution: contributionOf(peer, ranking) };
    }),
    network.handle('checkpoint', async (peer, { job, digest }) => {
      readable(job, peer, 'checkpoints');
      return { checkpoint: store.rounds.checkpointOf(job, digest)?.envelope ?? null };
    }),
    network.handle('recheck', async (peer, { job, digest }) => {
      const { members } = readable(job, peer, 'blobs');
      if (!mayFetch(peer, digest, { jobs: all(), store })) {
        throw coordinatorError('NOT_FOUND', `job ${job} has no blob ${digest}`, { job, digest });
      }
      // In an open job, strangers get only the results of checks that a member or reader started.
      return { state: await rechecks.state(digest, { peer, mayStart: members.mayRead(peer) }) };
    }),
    network.handle('settings', async (peer, { job, record }) => {
      readable(job, peer, 'settings');
      return { settings: store.jobs.settingsRecord(job, record) };
    }),
    network.handle('record', async (peer, { job, ordinal, first, rollBacks }, { signal }) => {
      const allowed = (): JobRun => readable(job, peer, 'checkpoints');
      const { run, beforeWork } = await inTurn(recordQuotas, allowed, { peer, signal });
      const answer = await records.answer(run, { ordinal, first }, beforeWork);
      return rollBacks ? { ...answer, rollBacks: newestRollBacks(run) } : answer;
    }),
    network.handle('figures', async (peer, { job, round }, { signal }) => {
      const allowed = (): JobRun => readable(job, peer, 'scores');
      const { run, beforeWork } = await inTurn(figuresQuotas, allowed, { peer, signal });
      return { figures: await records.figures(run, round, beforeWork) };
    }),
  ];
}

function newestRollBacks({ context: { job, deps } }: JobRun): RpcResponse<'record'>['rollBacks'] {
  const newest = deps.store.rounds.rollBacks(job, VERSION_ROLL_BACKS);
  return newest.map(({ round, restores }) => ({ round, restores: restores! })).reverse();
}

/**
 * Waits until a stranger may make a call. A member waits in the function `beforeWork`, and only if its answer is not in
 * memory.
 * @param allowed checks that the peer may read the job, and returns the job
 */
async function inTurn(
  quotas: RecordQuotas,
  allowed: () => JobRun,
  { peer, signal }: { peer: string; signal: AbortSignal },
): Promise<{ run: JobRun; beforeWork: (isNeeded: () => boolean) => Promise<void> }> {
  const isMember = allowed().members.list.has(peer);
  if (!isMember) await quotas.waitAsStranger(peer, { signal });
  // While the peer waited, its invite may have been revoked.
  const run = allowed();
  const beforeWork = async (isNeeded: () => boolean): Promise<void> => {
    if (!isMember) return;
    await quotas.waitAsMember(peer, run.context, { signal, isNeeded });
    allowed();
  };
  return { run, beforeWork };
}
