import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { prepareData } from '../../cli/demo/data.ts';
import type { BenchOptions, BenchRow } from '../bench.ts';
import { type Answer, type AttackKind, attackKinds } from './attack-peers.ts';
import { AttackTarget, type TargetLoad } from './attack-target.ts';
import { HonestPeers, type Service } from './honest-peers.ts';

export const name = 'attacks';
export const about =
  'how well a coordinator serves honest peers while attackers fill its queues (8 minutes, Linux only)';

export const shapes = attackKinds;
const ROOT = join(import.meta.dirname, '../..');
/**
 * Descriptions of the attacks. Each attack repeats a finding of a security audit in November 2026, and its description
 * gives the number of the finding.
 */
const texts: Record<AttackKind, string> = {
  calls: 'finding 1: 17 identities open 16 calls each and send nothing',
  sockets: 'finding 2: 80 idle sockets, which are opened again after a second',
  ranges: 'finding 3: 12 identities ask for 8 ranges each and never read',
  gossip: 'finding 7: signed heartbeats of 5,000 unknown keys on one connection per address',
  names: 'finding 9: 60 identities join and change their names once a second',
  keys: 'finding 10: thousands of other keys of the rate limiter',
  bursts: 'finding 10, at the same moment: 525 identities call all methods at once',
  refusals: 'finding 13: signed updates of 8,000 unknown keys on one connection per address',
};
/**
 * Attacks whose messages are all refused. For these attacks, the benchmark measures the refused messages per
 * second of processor time.
 */
const floods: readonly AttackKind[] = ['gossip', 'refusals'];
/**
 * Numbers of loopback addresses that the attackers use. Each attack runs once with each of these numbers.
 * Honest peers use another address.
 */
const ADDRESSES = [1, 16];
/**
 * Limit on the growth of the process's memory during an attack, in MiB. The growth includes garbage: V8 lets
 * the old generation grow to about four times its live objects before it collects garbage (decision 042). The growth
 * also includes up to 32 MiB of buffers for the ranges that a host serves at the same time.
 */
const MEMORY_MIB = 96;
/** Limit on the growth of live memory during an attack, in MiB. */
const LIVE_MIB = 48;
/** Limit on the growth of the process's memory in the second half of an attack, in MiB. */
const LATER_MIB = 24;
const PATIENCE_MS = 30 * 60_000;

interface Measured {
  service: Service;
  before: TargetLoad;
  after: TargetLoad;
}

/** One attack, measured. */
interface Attack {
  kind: AttackKind;
  addresses: number;
  alone: Measured;
  attacked: Measured;
  /** Measurements of the second period of the attack, which is as long as the first period. */
  later: Measured;
  /** Memory of the process just before the attack. */
  memoryBytes: number;
  /** Bytes that are live after all garbage was collected, before and during the attack. */
  live: { alone: number; attacked: number };
  /** Reports of the attackers at the beginning and at the end of the first period of the attack. */
  answers: { before: Answer; after: Answer };
}

/**
 * Measures how a coordinator serves honest peers, first undisturbed and then during each attack. Coordinator, attackers
 * and honest peers are separate processes on loopback. The attackers run at the lowest priority. Speeds and times still
 * need an idle machine, because the attackers use all the processor time that they get. Counts, and the processor times
 * of the coordinator, are valid on a busy machine too. The option `shapes` names the attacks to run.
 */
export async function run(report: (row: BenchRow) => void, options: BenchOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'swarm-bench-attacks-'));
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const kinds = options.shapes ? attackKinds.filter((kind) => options.shapes!.includes(kind)) : attackKinds;
  try {
    const data = await prepareData(join(folder, 'data'), { cwd: ROOT });
    for (const kind of kinds) {
      for (const addresses of ADDRESSES) {
        const place = join(folder, `${kind}-${addresses}`);
        const target = await AttackTarget.start(place, data, signal);
        const honest = new HonestPeers(place, target.target);
        try {
          target.choose(await honest.start());
          await runAttack({ kind, addresses, target, honest }, report, options);
        } finally {
          await honest.stop();
          await target.stop();
        }
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runAttack(
  {
    kind,
    addresses,
    target,
    honest,
  }: { kind: AttackKind; addresses: number; target: AttackTarget; honest: HonestPeers },
  report: (row: BenchRow) => void,
  options: BenchOptions,
): Promise<void> {
  const seconds = options.quick ? 2 : 6;
  const measure = async (): Promise<Measured> => {
    await target.load();
    const before = await target.load();
    const service = await honest.serve(seconds);
    // Wait, because the last heartbeats may still be on their way.
    await pause(1000);
    return { service, before, after: await target.load() };
  };
  await honest.serve(1);
  const alone = await measure();
  const aloneBytes = await target.liveBytes();
  const { memoryBytes } = await target.load();
  const attackers = fork(join(import.meta.dirname, 'attack-peers.ts'), [
    kind,
    String(addresses),
    JSON.stringify(target.target),
  ]);
  try {
    await Promise.race([
      once(attackers, 'message'),
      once(attackers, 'exit').then(([code]) => {
        throw new Error(`the attackers ended with code ${code}`);
      }),
    ]);
    const before = await askAttackers(attackers);
    const attacked = await measure();
    const answers = { before, after: await askAttackers(attackers) };
    const later = await measure();
    const live = { alone: aloneBytes, attacked: await target.liveBytes() };
    options.log(
      `attacks: ${kind} from ${addresses}: ${JSON.stringify({ alone, attacked, later, live, answers })}`,
    );
    reportAttack({ kind, addresses, alone, attacked, later, memoryBytes, live, answers }, report);
  } finally {
    attackers.disconnect();
    await once(attackers, 'exit');
  }
}

async function askAttackers(attackers: ChildProcess): Promise<Answer> {
  attackers.send('count');
  const [answer] = (await once(attackers, 'message')) as [Answer];
  return answer;
}

function reportAttack(
  { kind, addresses, alone, attacked, later, memoryBytes, live, answers }: Attack,
  report: (row: BenchRow) => void,
): void {
  const { service, before, after } = attacked;
  const reference = `${texts[kind]}; load ${loadavg()[0]!.toFixed(0)} on ${availableParallelism()} cores`;
  const row = (
    what: string,
    value: number,
    unit: string,
    target: number | null = null,
    least = false,
  ): void =>
    report({
      name: `${kind} × ${addresses}: ${what}`,
      value,
      unit,
      target,
      met: target === null ? null : least ? value >= target : value <= target,
      reference,
    });
  row('honest joins', percent(service.joined, service.joins), '%', 100, true);
  row('honest deliveries', percent(after.accepted - before.accepted, service.sent), '%', 100, true);
  row('fetches', percent(service.speeds.length, service.fetches), '%', 100, true);
  const speed = (measured: Measured): number =>
    quantile(measured.service.speeds, 0.5) / quantile(alone.service.speeds, 0.5);
  row('fetch speed, relative to no attack', speed(attacked), '×', 0.5, true);
  row('fetch speed in the second period, relative to no attack', speed(later), '×', 0.5, true);
  row('honest requests, 95th percentile', quantile(service.times, 0.95), 's', 0.5);
  row('honest requests in the second period, 95th percentile', quantile(later.service.times, 0.95), 's', 0.5);
  row('honest requests without an attack, 95th percentile', quantile(alone.service.times, 0.95), 's');
  row('event loop lag, processor time', after.lagMs, 'ms', 100);
  row('event loop lag without an attack, processor time', alone.after.lagMs, 'ms');
  const seconds = (after.at - before.at) / 1000;
  const load = (measured: Measured): number =>
    (measured.after.cpuSeconds - measured.before.cpuSeconds) /
    ((measured.after.at - measured.before.at) / 1000);
  row('processor time of the coordinator', load(attacked), 'cores');
  // This assumes that the honest peers cost the coordinator as much processor time as in the undisturbed run.
  row('processor time of the coordinator for the attackers', load(attacked) - load(alone), 'cores');
  row(
    'processor time of the attackers',
    (answers.after.cpuSeconds - answers.before.cpuSeconds) / seconds,
    'cores',
  );
  if (floods.includes(kind)) {
    const cpu = (load(attacked) - load(alone)) * seconds;
    row('refused', (after.refused - before.refused) / cpu, 'messages/CPU s', 20_000, true);
  }
  if (kind === 'keys') row('calls beyond a quota', answers.after.beyondQuota, 'calls', 0);
  const growth = (from: number, to: number): number => (to - from) / 2 ** 20;
  row('memory growth', growth(memoryBytes, after.memoryBytes), 'MiB', MEMORY_MIB);
  row('memory growth, second period', growth(after.memoryBytes, later.after.memoryBytes), 'MiB', LATER_MIB);
  row('live memory growth', growth(live.alone, live.attacked), 'MiB', LIVE_MIB);
  row('database growth', (later.after.databaseBytes - alone.after.databaseBytes) / 1024, 'KiB', 1024);
}

function percent(part: number, whole: number): number {
  return (100 * part) / whole;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}
