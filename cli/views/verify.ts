import { countOf, safeText } from '../../common/text.ts';
import type { HeldPart, ReceiptsReport, VerifyReport } from '../../index.ts';

/** Maximum number of problems that the text shows. The output of --json can have more. */
const SHOWN_PROBLEMS = 20;

/** Formats the result of a verification. */
export function verifyLines({
  job,
  name,
  coordinator,
  namesCoordinator,
  checkpoints,
  recomputed,
  problems,
  ok,
  held,
}: VerifyReport): string[] {
  const merges = checkpoints.filter(({ checked }) => checked.includes('contributors')).length;
  const first = checkpoints[0]?.round ?? 0;
  const last = checkpoints.at(-1)?.round ?? 0;
  const skipped = skippedRounds(checkpoints);
  return [
    `job          ${name} ${job}`,
    coordinatorLine(coordinator, namesCoordinator),
    `checkpoints  ${checkpoints.length}, of the rounds ${first} to ${last}`,
    ...(held === undefined ? [] : heldLines(held)),
    `merges       ${merges}, of which ${recomputed} were computed again and gave the same bits`,
    ...lossLines(checkpoints),
    ...scoreLines(checkpoints),
    ...skipped.map(({ check, reason, rounds }) => `not checked  ${check}, ${rounds}: ${reason}`),
    ...problems.slice(0, SHOWN_PROBLEMS).map(({ code, message }) => `problem      ${code}: ${message}`),
    ...(problems.length > SHOWN_PROBLEMS
      ? [`             and ${problems.length - SHOWN_PROBLEMS} more; see --json`]
      : []),
    ok
      ? 'result       no check found a problem'
      : `result       ${countOf(problems.length, 'problem')}; the first is ${problems[0]!.code}`,
  ];
}

/** Formats facts about the part of a job's record that a node holds. */
function heldLines({ round, issuedAt, chainFrom, weights }: HeldPart): string[] {
  const start =
    chainFrom === 0 ? 'the first checkpoint of the job' : `round ${chainFrom}, the oldest without a gap`;
  return [
    'source       a node, which keeps only a part of the record',
    `newest       round ${round}, in a head that the coordinator signed at ${new Date(issuedAt).toISOString()}; the job can have later rounds`,
    ...(chainFrom === null ? [] : [`chain        from ${start}, to round ${round}`]),
    weights === null
      ? 'adapter      not checked, because the node gave none of the newest adapters'
      : `adapter      of round ${weights.round}: its bytes have the digest ${weights.digest}, which the coordinator signed`,
  ];
}

/** Formats the measured held-out losses: one line, or none if no loss was measured. */
function lossLines(checkpoints: VerifyReport['checkpoints']): string[] {
  const losses = checkpoints.flatMap(({ loss }) => loss ?? []);
  if (losses.length === 0) return [];
  const apart = losses.map(({ published, measured }) => Math.abs((measured ?? Number.NaN) / published - 1));
  return [
    `losses       ${losses.length} measured again; they differ from the published losses by at most ${(100 * Math.max(...apart)).toPrecision(2)} %`,
  ];
}

/** Formats the measured scores: one line, or none if no score was measured. */
function scoreLines(checkpoints: VerifyReport['checkpoints']): string[] {
  const merges = checkpoints.flatMap(({ scores }) => scores ?? []);
  if (merges.length === 0) return [];
  const sum = (count: 'effects' | 'gains'): number => merges.reduce((total, one) => total + one[count], 0);
  const apart = Math.max(...merges.map(({ difference }) => difference));
  return [
    `scores       ${sum('effects')} effects and ${sum('gains')} gains measured again, of ${merges.length} merges; they differ from the published figures by at most ${(100 * apart).toPrecision(2)} %`,
  ];
}

/** Formats the result of checking the receipts of a node. */
export function receiptsLines({
  job,
  name,
  coordinator,
  namesCoordinator,
  peer,
  updates,
  rounds,
}: ReceiptsReport): string[] {
  const span = rounds === null ? '' : `, of the rounds ${rounds[0]} to ${rounds[1]}`;
  return [
    `job          ${safeText(name)} ${job}`,
    coordinatorLine(coordinator, namesCoordinator),
    `node         ${peer}`,
    `updates      ${updates}${span}`,
    'result       the coordinator signed that it accepted these updates',
  ];
}

function coordinatorLine(coordinator: string, namesCoordinator: boolean): string {
  const advice = namesCoordinator
    ? 'compare this peer id, or the digest of the job, with your invite, or ask the operator'
    : 'compare this peer id with your invite, or ask the operator, because the digest of this older job does not cover the peer id';
  return `coordinator  ${coordinator}  (${advice})`;
}

/** Groups the skipped checks of all checkpoints by their name and reason. */
function skippedRounds(checkpoints: VerifyReport['checkpoints']) {
  const groups = new Map<string, { check: string; reason: string; all: number[] }>();
  for (const { round, unchecked } of checkpoints) {
    for (const { check, reason } of unchecked) {
      const group = groups.get(`${check} ${reason}`) ?? { check, reason, all: [] };
      group.all.push(round);
      groups.set(`${check} ${reason}`, group);
    }
  }
  return [...groups.values()].map(({ check, reason, all }) => ({ check, reason, rounds: ranges(all) }));
}

/** Formats ascending rounds: "round 3", or "rounds 1 to 4, 7". Null rounds have no checkpoint and leave gaps. */
function ranges(rounds: readonly number[]): string {
  const runs: { from: number; to: number }[] = [];
  for (const round of rounds) {
    const run = runs.at(-1);
    if (run && run.to === round - 1) run.to = round;
    else runs.push({ from: round, to: round });
  }
  const texts = runs.map(({ from, to }) => (from === to ? String(from) : `${from} to ${to}`));
  return `${rounds.length === 1 ? 'round' : 'rounds'} ${texts.join(', ')}`;
}
