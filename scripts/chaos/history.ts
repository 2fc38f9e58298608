import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { LOST } from '../../coordinator/recovery/catch-up.ts';
import type { Checkpoint } from '../../protocol/messages.ts';
import { counts, type ReceiptCode } from '../../protocol/receipts.ts';
import { verifyMessage } from '../../protocol/signing.ts';
import type { Point } from './compare.ts';

/** Results of the check of a stopped swarm. */
export interface History {
  readonly problems: readonly string[];
  readonly checkpoints: number;
  /** Number of updates in checkpoints. */
  readonly merged: number;
  /** Number of accepted updates whose newest receipt says that they do not count. */
  readonly undone: number;
  /** The checkpoints, oldest first. */
  readonly points: readonly Point[];
}

/** Query for the newest receipt of each update, one row per update. */
const NEWEST_RECEIPTS = `SELECT peer, round, digest, code, detail FROM receipts WHERE id IN
  (SELECT max(id) FROM receipts WHERE job = ? AND code <> 'duplicate' GROUP BY peer, round, digest)`;

/**
 * Checks the databases of a stopped swarm: signatures, the chain of checkpoints, and that each accepted update is in
 * exactly one checkpoint.
 * @param nodes homes of nodes, without those that a fault damaged, restored or deleted
 */
export function checkHistory(home: string, job: string, nodes: readonly string[]): History {
  const db = open(home, 'coordinator');
  const problems: string[] = [];
  const checkpoints = db
    .prepare('SELECT round, digest, envelope FROM checkpoints WHERE job = ? ORDER BY round')
    .all(job)
    .map((row) => ({ row, ...verifyMessage('checkpoint', row.envelope as Uint8Array) }));
  const author = checkpoints[0]?.author;
  let parent: string | null = null;
  const merged = new Map<string, number>();
  for (const { row, author: signer, digest, message } of checkpoints) {
    if (digest !== row.digest) problems.push(`the checkpoint of round ${row.round} has another digest`);
    if (signer !== author || message.job !== job)
      problems.push(`round ${row.round} has another author or job`);
    if (message.parent !== parent) problems.push(`round ${row.round} does not continue ${parent}`);
    parent = digest;
    collectMerged(message, merged, problems);
  }
  const receipts = db.prepare(NEWEST_RECEIPTS).all(job) as unknown as {
    peer: string;
    round: number;
    digest: string;
    code: ReceiptCode;
    detail: string;
  }[];
  const codes = new Map(
    receipts.map(({ peer, round, digest, code }) => [`${peer} ${round} ${digest}`, code]),
  );
  for (const [update, code] of codes)
    if (counts(code) && !merged.has(update)) problems.push(`lost: ${update} has the receipt ${code}`);
  for (const [update, round] of merged) {
    const code = codes.get(update);
    if (code === undefined || !counts(code))
      problems.push(`round ${round} contains ${update}, whose newest receipt is ${code ?? 'missing'}`);
  }
  db.close();
  // A restored coordinator abandons its newest checkpoint if no node has this checkpoint. The authors of the updates in
  // the checkpoint get these receipts. A node whose update had counted does not add it back to its error feedback.
  const lost = receipts.filter(({ detail }) => detail === LOST.detail);
  const lostUpdates = new Set(lost.map(({ round, digest }) => `${round} ${digest}`));
  for (const node of nodes) checkNode(node, { job, merged, lostUpdates }, problems);
  return {
    problems,
    checkpoints: checkpoints.length,
    merged: merged.size,
    undone: receipts.filter(({ code }) => !counts(code)).length,
    points: pointsOf(checkpoints.map(({ message }) => message)),
  };
}

function pointsOf(checkpoints: readonly Checkpoint[]): Point[] {
  let tokens = 0;
  return checkpoints.map(({ metrics }) => {
    tokens += metrics.tokens;
    return { tokens, loss: metrics.heldOutLoss };
  });
}

function collectMerged(checkpoint: Checkpoint, merged: Map<string, number>, problems: string[]): void {
  for (const { peer, round, update } of checkpoint.contributors) {
    const key = `${peer} ${round} ${update}`;
    const before = merged.get(key);
    if (before !== undefined) problems.push(`doubled: ${key} is in rounds ${before} and ${checkpoint.round}`);
    merged.set(key, checkpoint.round);
  }
}

/**
 * Checks that a node knows which of its updates were merged. An update that counted for the node must be in a checkpoint or
 * in `lostUpdates`, and an update that the node added back to its error feedback must be in no checkpoint.
 */
function checkNode(
  home: string,
  {
    job,
    merged,
    lostUpdates,
  }: { job: string; merged: ReadonlyMap<string, number>; lostUpdates: ReadonlySet<string> },
  problems: string[],
): void {
  const inCheckpoints = new Set([...merged.keys()].map((key) => key.split(' ').slice(1).join(' ')));
  const db = open(home, 'node');
  const rows = db.prepare('SELECT round, digest, outcome FROM updates WHERE job = ?').all(job);
  db.close();
  for (const { round, digest, outcome } of rows) {
    const isMerged = inCheckpoints.has(`${round} ${digest}`);
    const isLost = lostUpdates.has(`${round} ${digest}`);
    if ((outcome === 'counted' && !isMerged && !isLost) || (outcome === 'restored' && isMerged))
      problems.push(`${home}: update of round ${round} is ${outcome} but ${isMerged ? '' : 'not '}merged`);
  }
}

function open(home: string, role: 'coordinator' | 'node'): DatabaseSync {
  return new DatabaseSync(join(home, `${role}.sqlite`), { readOnly: true });
}
