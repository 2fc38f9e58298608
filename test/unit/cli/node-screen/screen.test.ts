import { expect, it, test } from 'vitest';
import { bar, columnsOf, cut, wrap } from '../../../../cli/node-screen/columns.ts';
import { type ScreenState, screenLines } from '../../../../cli/node-screen/lines.ts';
import { LiveArea } from '../../../../cli/node-screen/live-area.ts';
import { JobPace, roundSeconds } from '../../../../cli/node-screen/pace.ts';
import { NodeScreen } from '../../../../cli/node-screen/screen.ts';
import { ScreenWarnings } from '../../../../cli/node-screen/warnings.ts';
import { nodeLines, updateLine } from '../../../../cli/views/node.ts';
import { NodeLines, stateKey } from '../../../../cli/views/node-news.ts';
import { stoppedLines } from '../../../../cli/views/thanks.ts';
import type { NodeStatus, NodeUpdate } from '../../../../protocol/api/node.ts';
import { FakeTerminal } from '../../../utils/fake-terminal.ts';
import { differenceFromPage } from '../../../utils/shown-in-page.ts';
import { exampleStatus, JOB } from '../../../utils/swarm/node-status.ts';

const EVIL = 'ot\u001b[2Jter\nnode: fine \u{1f4a3} 模型';
const SIZE = { columns: 80, rows: 40 };

const update = (round: number, changes: Partial<NodeUpdate> = {}): NodeUpdate => ({
  job: JOB.job,
  round,
  update: String(round).padStart(64, '0'),
  bytes: 84_000,
  code: 'accepted',
  detail: '',
  meaning: '',
  outcome: 'counted',
  at: round * 10_000,
  ...changes,
});

const contribution = { round: 20, place: 3, contributors: 12, tokens: 140, totalTokens: 1000 };
const work = { accepted: 35, refused: 1, tokens: 1_200_000, seconds: 3660 };
const totals = [{ job: JOB.job, name: 'moby', ...work, contribution }];

const cost = {
  cpuThreads: 2.94,
  memoryBytes: 1.4e9,
  diskBytes: 3.2e9,
  bytesPerSecond: { sent: 12_000, received: 0 },
  month: { month: '2026-11', sent: 1.2e9, received: 3.4e9 },
};

function state(status: Partial<NodeStatus> = {}, changes: Partial<ScreenState> = {}): ScreenState {
  return {
    status: exampleStatus({ totals, ...status }),
    timeLeft: [{ round: 18, job: 4320 }],
    download: null,
    warnings: [],
    news: [],
    logFile: '/home/me/node/logs/node.log',
    homeFlag: ' --home /srv/node',
    ...changes,
  };
}

/** Joins the continuation of a text with its first line. */
const joined = (lines: readonly string[]): string => lines.join('\n').replace(/\n {12}/g, ' ');
const text = (...of: Parameters<typeof state>): string => joined(screenLines(state(...of), SIZE));

it('shows for a while that the clock of the machine was set', () => {
  expect(text({ clockJump: { byMs: 600_000, secondsAgo: 60 } })).toMatch(/^clock +! .*\b10 min\b/m);
  expect(text()).not.toMatch(/^clock/m);
});

it('shows that the node stops after its round', () => {
  expect(text({ draining: true })).toMatch(/^draining +\S/m);
  expect(text()).not.toMatch(/^draining/m);
});

it('shows what happens, progress with the time left, totals and costs', () => {
  const other = { ...totals[0]!, job: 'ef'.repeat(32), accepted: 77, refused: 0 };
  const shown = text({ cost, totals: [...totals, other] });
  for (const part of ['brave-otter', '2 h 14 min', '62 %', '18 s', '1 h 12 min', '20 of 40', '2.9130']) {
    expect(shown, part).toContain(part);
  }
  for (const part of ['2.9 threads', '1.4 GB', '3.2 GB', '12 kB/s', '/logs/node.log']) {
    expect(shown, part).toContain(part);
  }
  expect(shown).toMatch(/35 rounds.*\b1\b.*1,200,000 tokens.*1 h 1 min/s);
  expect(shown).toMatch(/112 rounds.* 2 jobs/);
  expect(shown).toMatch(/^place +3rd of 12 .*14 %/m);
  expect(shown).toMatch(/month 1\.2 GB.*3\.4 GB/);
});

it('looks like the screen in docs/contributing-a-machine.md', () => {
  const meaning =
    'the gate left out the updates of this person, because the held-out loss is lower without them';
  const refused = update(20, { code: 'left-out', outcome: 'restored', meaning });
  const news = [{ at: 0, text: 'round 20  84 kB  accepted, trained at 1,240 tokens/s' }];
  const more = { accepted: 77, refused: 0, tokens: 2_900_000, seconds: 20_340 };
  const other = { ...totals[0]!, ...more, job: 'ef'.repeat(32) };
  const shown = state({ cost, totals: [...totals, other], updates: [refused] }, { news });
  const lines = screenLines(shown, SIZE);
  expect(differenceFromPage('docs/contributing-a-machine.md', 'node ', lines)).toBeNull();
});

it('says what was refused and why, and what it waits for', () => {
  const refused = update(20, { code: 'harmful', outcome: 'restored', meaning: 'the update raises the loss' });
  const foreign = update(22, { job: 'ef'.repeat(32), code: 'outlier', outcome: 'restored' });
  const shown = text({ updates: [foreign, refused] });
  expect(shown).toMatch(/^refused .*20.*harmful.*raises the loss/m);
  expect(shown).not.toContain('outlier');
  // The line goes on with what happens to the update.
  expect(shown).not.toMatch(/raises the loss$/m);
  const over = { job: { ...JOB, phase: 'finished' as const }, state: 'awaiting' as const };
  expect(text({ ...over, updates: [refused] })).toMatch(/raises the loss$/m);
  const waiting = text({ state: 'awaiting', reason: 'the job waits: 1 of 2 nodes', retrySeconds: 30 });
  expect(waiting).toMatch(/^waiting .*1 of 2 nodes.* 30 s/m);
  const unreachable = { reason: 'no answer within 10 s', failures: 4, retrySeconds: 12 };
  const coordinator = { addresses: [], peer: null, connected: false, unreachable };
  const lost = text({ coordinator, state: 'joining', reason: 'could not connect' });
  expect(lost.match(/^waiting .*no answer within 10 s.* 5 .*12 s/gm)).toHaveLength(1);
  expect(lost).not.toContain('could not connect');
});

it('does not call an update refused that was only not merged, and shows the reason', () => {
  const detail = '1 update arrived (at least 2 needed), and the deadline has passed';
  const unmerged = update(20, { code: 'null-round', outcome: 'restored', meaning: 'a or b', detail });
  const news = [{ at: 0, text: updateLine(unmerged) }];
  const shown = text({ updates: [unmerged] }, { news });
  expect(shown).not.toMatch(/refused|null-round|a or b/);
  const squeezed = shown.replace(/\s+/g, ' ');
  expect(squeezed).toMatch(/ not merged round 20 .*deadline has passed.* recent .*deadline has passed/);
});

it('shows no progress of the job before the node knows the newest round', () => {
  const shown = text({ job: { ...JOB, phase: null, roundsDone: 0 }, state: 'joining' });
  expect(shown).toMatch(/^job +moby\b.*\b40 rounds\b/m);
  expect(shown).not.toMatch(/1 h 12 min|0 of/);
});

it('says that a limit has to be changed, and does not speak of retrying', () => {
  const reason = 'the job needs disk space of 2 GiB; this node lends 1 GiB; raise --max-disk';
  const hold = { reason: 'disk', detail: 'needs 2 GiB, may use 1 GiB' } as const;
  const held = { state: 'joining', reason, hold, retrySeconds: 30 } as const;
  const shown = text(held);
  expect(shown).toMatch(/^waiting .*--max-disk/m);
  expect(shown).not.toContain('30 s');
  const [line] = new NodeLines({ homeFlag: '' })
    .next(exampleStatus({ ...held }))
    .filter((one) => one.includes('--max-disk'));
  expect(line).not.toContain('retrying');
});

it('shows the whole advice about an engine on a terminal of 80 × 24', () => {
  const modules = '/opt/programs/of/ada/lora-swarm/node_modules/onnxruntime-node';
  const library = `${modules}/bin/napi-v6/linux/x64/libonnxruntime_providers_shared.so`;
  const command = `"node ${modules}/script/install.js --onnxruntime-node-install=cuda12" (see docs/engines.md)`;
  const reason = `onnx-cuda does not run on this machine: ${library}: cannot open shared object file: No such file or directory; use --engine onnx-cpu, which runs on every machine; or on Linux x64 with an NVIDIA GPU, install CUDA 12 and cuDNN 9 on the loader's path and run ${command}`;
  const hold = { reason: 'engine', detail: '' } as const;
  const held = { state: 'joining', job: null, reason, hold, retrySeconds: 30 } as const;
  const shown = screenLines(state({ ...held, totals: [] }), { columns: 80, rows: 24 });
  // A path is broken where the line ends, so spaces do not count.
  const bare = (text: string): string => text.replaceAll(' ', '');
  expect(bare(shown.join(''))).toContain(bare(reason));
});

it('has a new key of the state if only the reason changes, but not while steps or attempts to connect go on', () => {
  const paused = { state: 'awaiting', reason: 'paused by its owner' } as const;
  const job = { ...JOB, phase: 'paused', reason: 'lunch' } as const;
  const away = (address: string): Partial<NodeStatus> => ({
    state: 'joining',
    reason: `could not connect to ${address}`,
    coordinator: {
      ...{ addresses: [], peer: null, connected: false },
      unreachable: { reason: address, failures: 1, retrySeconds: 1 },
    },
  });
  const keys = [
    [paused, { ...paused, reason: 'this machine runs on battery' }],
    [{ job }, { job: { ...job, reason: 'the disk is full' } }],
    [away('10.0.0.1'), { ...away('10.0.0.1'), coordinator: exampleStatus().coordinator }],
  ].map((all) => all.map((changes) => stateKey(exampleStatus(changes))));
  for (const [before, after] of keys) expect(after).not.toBe(before);
  for (const same of [
    [{ step: 5 }, { step: 6 }],
    [away('10.0.0.1'), away('10.0.0.2')],
  ]) {
    expect(new Set(same.map((changes) => stateKey(exampleStatus(changes)))).size).toBe(1);
  }
});

it('thanks at the end of a job, with the command that fetches the adapter', () => {
  const finished = { ...JOB, phase: 'finished' as const, roundsDone: 40 };
  const over = { job: finished, state: 'awaiting' as const, done: true, reason: 'the job has ended' };
  const shown = text(over);
  expect(shown).toMatch(/^thanks .*moby.*35 rounds/m);
  expect(shown).toMatch(/checkpoint pull moby --home \/srv\/node$/m);
  expect(text({ state: 'awaiting', reason: 'it needs a node' })).toMatch(/^now +waiting: it needs a node$/m);
  const terminal = new FakeTerminal(80, 40);
  const clock = { now: () => 0, monotonic: () => 0, after: () => () => {} };
  const screen = new NodeScreen(
    { stderr: terminal, clock },
    { warnings: new ScreenWarnings(), logFile: '', homeFlag: '' },
  );
  screen.show(exampleStatus({ totals }));
  screen.show(exampleStatus({ ...over, totals }));
  expect(terminal.lines.filter((line) => line.includes('checkpoint pull'))).toHaveLength(1);
  const news = new NodeLines({ homeFlag: '' });
  news.next(exampleStatus({ totals }));
  const lines = news.next(exampleStatus({ ...over, totals }));
  expect(lines.filter((line) => /moby.*35 rounds|checkpoint pull/.test(line))).toHaveLength(2);
  expect(news.next(exampleStatus({ ...over, totals }))).toEqual([]);
});

it('says that a job was stopped early, and why, and calls a job finished only if it has all of its rounds', () => {
  const job = { ...JOB, phase: 'finished' as const, reason: 'enough for now' };
  const texts = (roundsDone: number): string[] => {
    const over = { job: { ...job, roundsDone }, state: 'awaiting' as const, done: true };
    const other = { ...exampleStatus(over).jobs[0]!, job: { ...over.job, job: 'ef'.repeat(32) } };
    const news = new NodeLines({ homeFlag: '' });
    news.next(exampleStatus());
    return [
      text(over),
      text({ ...over, jobs: [exampleStatus(over).jobs[0]!, other] }),
      news.next(exampleStatus(over)).join('\n'),
      nodeLines(exampleStatus(over), '').join('\n'),
    ];
  };
  for (const shown of texts(21)) {
    expect(shown).toMatch(/stopped early\b.*enough for now/);
    // A sweep stops jobs too, not only the operator.
    expect(shown).not.toMatch(/finished|by the operator/);
  }
  for (const shown of texts(40)) expect(shown).toMatch(/finished/);
});

it('does not thank for a job in which the node had no part', () => {
  const over = { job: { ...JOB, phase: 'finished' as const }, state: 'awaiting' as const, done: true };
  const past = [{ ...totals[0]!, job: 'ef'.repeat(32), name: 'old' }];
  const shown = text({ ...over, totals: past });
  expect(shown).not.toMatch(/thank/);
  expect(shown).toMatch(/^ended .*moby/m);
  expect(shown).toMatch(/checkpoint pull moby --home \/srv\/node$/m);
  const lines = new NodeLines({ homeFlag: '' });
  lines.next(exampleStatus({ totals: past, state: 'training' }));
  const news = lines.next(exampleStatus({ ...over, totals: past })).join('\n');
  expect(news).not.toMatch(/thank/);
  // The node trained before the end of the job, but made no update.
  expect(news).toMatch(/\bmoby .*\bupdate of this node$/m);
  expect(news).toMatch(/checkpoint pull moby$/m);
  // Totals count updates only. An operator's node may have computed scores.
  const operator = { ...over, job: { ...over.job, role: 'operator' as const } };
  expect(text({ ...operator, totals: past })).toMatch(/^thanks .*moby/m);
});

it('offers no adapter if the job ended before its first merge', () => {
  const job = {
    ...JOB,
    phase: 'finished' as const,
    roundsDone: 0,
    checkpoint: { ...JOB.checkpoint!, round: 0 },
  };
  const over = { job, state: 'awaiting' as const, done: true, totals: [] };
  const news = new NodeLines({ homeFlag: '' }).next(exampleStatus(over)).join('\n');
  for (const shown of [text(over), news]) {
    expect(shown).not.toContain('checkpoint pull');
    expect(shown).toMatch(/\bno round of moby was merged\b/);
  }
});

it('says at the end what the node did for the jobs of this run, with its places, and in all', () => {
  const past = { ...totals[0]!, job: 'ef'.repeat(32), name: 'old', accepted: 5 };
  const run = new Set([JOB.job]);
  expect(stoppedLines(exampleStatus({ totals: [...totals, past] }), run)).toEqual([
    'stopped',
    expect.stringMatching(/^contributed 35 rounds.* moby; /),
    expect.stringMatching(/^place +moby: 3rd of 12 .*14 %/),
    expect.stringMatching(/^in all +40 rounds.* 2 jobs/),
  ]);
  expect(stoppedLines(exampleStatus({ totals }), run)).toHaveLength(3);
  // The node has not worked for the job of this run.
  const idle = { ...totals[0]!, accepted: 0, contribution: null };
  expect(stoppedLines(exampleStatus({ totals: [idle, past] }), run)).toEqual([
    'stopped',
    expect.stringMatching(/^in all +5 rounds.* 2 jobs/),
  ]);
  expect(stoppedLines(exampleStatus(), run)).toEqual(['stopped']);
  const waiting = exampleStatus({ updates: [update(4, { code: null, outcome: null })] });
  expect(stoppedLines(waiting, run)).toEqual([expect.stringMatching(/^stopped +\S/)]);
});

it('shows the name of the log file also if its path is long', () => {
  const logFile = `/home/${'very-long/'.repeat(9)}node/logs/node.log`;
  const last = screenLines(state({}, { logFile }), SIZE).at(-1)!;
  expect(last).toMatch(/ …\S*\/node\/logs\/node\.log$/);
  expect(columnsOf(last)).toBe(SIZE.columns - 1);
});

it('says that a round ended before the node had finished it, until the node makes its next update', () => {
  const missed = { missedRound: 21, round: 22, updates: [update(20)] };
  const news = new NodeLines({ homeFlag: '' });
  news.next(exampleStatus());
  expect(news.next(exampleStatus(missed)).join('\n')).toMatch(/^round 21 ended before/m);
  expect(nodeLines(exampleStatus(missed), '').join('\n')).toMatch(/^missed +round 21 /m);
  const later = exampleStatus({ ...missed, updates: [update(22), update(20)] });
  expect(nodeLines(later, '').join('\n')).not.toMatch(/^missed/m);
});

it('does not ask the user to stop a node that stops by itself', () => {
  const over = { job: { ...JOB, phase: 'finished' as const }, state: 'awaiting' as const, done: true };
  for (const stopsAfterJobs of [false, true]) {
    const status = { ...exampleStatus(over), stopsAfterJobs };
    const news = new NodeLines({ homeFlag: '' }).next(status).join('\n');
    expect(news.includes('Ctrl-C')).toBe(!stopsAfterJobs);
    expect(/stops when/.test(news)).toBe(stopsAfterJobs);
    const screen = joined(screenLines({ ...state(), status }, SIZE));
    expect(/^now .*stops when/m.test(screen)).toBe(stopsAfterJobs);
    expect(/^now .*serves the files/m.test(screen)).toBe(!stopsAfterJobs);
  }
});

it('names commands as the user types them, with the home of the node', () => {
  const pause = { reason: 'paused' as const, text: '"lora-swarm node resume" ends it', until: null };
  const hold = { reason: 'paused' as const, detail: '' };
  const over = { state: 'awaiting' as const, pause, hold, engineNote: 'see "lora-swarm doctor"' };
  expect(text(over)).toContain('"npx lora-swarm node resume --home /srv/node"');
  expect(text(over)).toContain('"npx lora-swarm doctor"');
  expect(nodeLines(exampleStatus(over), '', ' --home /srv/node').join('\n')).toContain(
    '"npx lora-swarm node resume --home /srv/node"',
  );
  const news = new NodeLines({ homeFlag: ' --home /srv/node' });
  expect(news.next(exampleStatus(over))).toContainEqual(
    expect.stringContaining('"npx lora-swarm node resume --home /srv/node"'),
  );
});

it('thanks with the place of the node as soon as the coordinator has answered for the last checkpoint', () => {
  const over = { job: { ...JOB, phase: 'finished' as const }, state: 'awaiting' as const, done: true };
  const older = [{ ...totals[0]!, contribution: { ...contribution, round: 19 } }];
  const news = new NodeLines({ homeFlag: '' });
  news.next(exampleStatus({ totals: older }));
  const place = expect.stringMatching(/moby.*3rd of 12 .*14 %/);
  expect(news.next(exampleStatus({ ...over, totals: older }))).not.toContainEqual(place);
  expect(news.next(exampleStatus({ ...over, totals }))).toEqual([place]);
  expect(news.next(exampleStatus({ ...over, totals }))).toEqual([]);
  const ready = new NodeLines({ homeFlag: '' });
  ready.next(exampleStatus({ totals }));
  expect(ready.next(exampleStatus({ ...over, totals }))).toContainEqual(place);
});

it('shows the reasons of the operator for a roll-back and for changed settings', () => {
  const reason = 'goes on from the checkpoint of round 15 (it repeats itself)';
  const changes = [{ key: 'rounds.count', before: 40, after: 60 }];
  const newestChange = { digest: 'ef'.repeat(32), fromRound: 21, changes, reason: 'more data' };
  const job = { ...JOB, reason, newestChange };
  const shown = text({ job });
  expect(shown).toMatch(/^job .*20 of 40 .*round 15 .*repeats itself/m);
  expect(shown).toMatch(/^changed +from round 21: rounds\.count 40 → 60 .*more data/m);
  const status = nodeLines(exampleStatus({ job }), '').join('\n');
  expect(status).toMatch(/^job .*training.*repeats itself/m);
  expect(status).toMatch(/^changed .*rounds\.count 40 → 60 .*more data/m);
  const news = new NodeLines({ homeFlag: '' });
  news.next(exampleStatus());
  const lines = [/40 → 60 .*more data/, /moby .*round 15 .*repeats itself/].map((line) =>
    expect.stringMatching(line),
  );
  expect(news.next(exampleStatus({ job }))).toEqual(lines);
  expect(news.next(exampleStatus({ job }))).toEqual([]);
  const terminal = new FakeTerminal(200, 40);
  const clock = { now: () => 0, monotonic: () => 0, after: () => () => {} };
  const options = { warnings: new ScreenWarnings(), logFile: '', homeFlag: '' };
  const screen = new NodeScreen({ stderr: terminal, clock }, options);
  screen.show(exampleStatus());
  screen.show(exampleStatus({ job }));
  expect(terminal.lines.filter((line) => line.includes('repeats itself'))).toHaveLength(1);
});

it('has lines for each of several jobs, with its share', () => {
  const one = exampleStatus().jobs[0]!;
  const busy = {
    ...one,
    state: 'busy' as const,
    reason: 'the trainer is busy',
    job: { ...JOB, name: 'alice' },
    jobName: 'alice',
  };
  const out = { ...one, shutOut: { code: 'BANNED', message: 'banned for copies' } };
  const shown = text({ jobs: [{ ...one, weight: 2, trainerSeconds: 60 }, busy, out] });
  expect(shown).toMatch(/^moby .*step 5 of 8/m);
  expect(shown).toMatch(/weight 2, 50 %/);
  expect(shown).toMatch(/^alice .*trainer is busy/m);
  expect(shown).toMatch(/banned for copies/);
});

it('has short lines for jobs that have ended, and shows the final line on 80 × 24', () => {
  const ended = (name: string, job: string) => ({
    ...exampleStatus().jobs[0]!,
    ...{ job: { ...JOB, name, job, phase: 'finished' as const, roundsDone: 40 }, jobName: name },
    ...{ state: 'awaiting' as const, done: true, followsJobs: true, reason: 'the job has ended' },
  });
  const other = 'ef'.repeat(32);
  const both = [...totals, { ...totals[0]!, job: other, name: 'bolt' }];
  const status = { cost, totals: both, jobs: [ended('moby', JOB.job), ended('bolt', other)] };
  const small = { columns: 80, rows: 24 };
  const lines = screenLines(state(status), small);
  expect(lines.length).toBeLessThan(small.rows);
  const shown = joined(lines);
  expect(shown).toMatch(/^moby +finished; held-out loss 2\.9130;.* next job/m);
  expect(shown).toMatch(/^costs .*2\.9 threads/m);
  expect(shown).toMatch(/^traffic /m);
  expect(shown).toContain('checkpoint pull bolt --home /srv/node');
  expect(shown.match(/3rd of 12/g)).toHaveLength(2);
  expect(lines.at(-1)).toMatch(/^Ctrl-C /);
  expect(shown).not.toMatch(/more lines/);
});

it.each([24, 12, 5])('says on %i rows that lines are left out, and keeps the final line', (rows) => {
  const one = exampleStatus().jobs[0]!;
  const jobs = Array.from({ length: 12 }, () => one);
  const lines = screenLines(state({ jobs }), { columns: 80, rows });
  expect(lines).toHaveLength(rows - 1);
  expect(lines.at(-3)).toMatch(/^… \d+ more lines?: .* status --home \/srv\/node$/);
  expect(lines.at(-1)).toMatch(/^Ctrl-C /);
});

it('shows the advice about a wrong clock on 80 columns, with a short peer id', () => {
  const peer = `12D3KooW${'b'.repeat(38)}GDq8xk`;
  const reason = `peer ${peer} refused the request: the node's clock is 2 h 0 min ahead of the coordinator's clock; the maximum difference is 60 s; set the clocks of both machines over the network (NTP)`;
  const held = { state: 'joining', reason, hold: { reason: 'clock', detail: '' } } as const;
  for (const jobs of [[], [exampleStatus().jobs[0]!]]) {
    const status = { ...held, jobs: [...jobs, { ...exampleStatus().jobs[0]!, ...held }] };
    const shown = joined(screenLines(state(status), { columns: 80, rows: 24 }));
    expect(shown).toContain('(NTP)');
    expect(shown).toContain('GDq8xk');
    expect(shown).not.toContain('12D3KooW');
  }
});

it('names a job before it has joined, by the name that its home keeps', () => {
  const joining = { job: null, jobName: 'bolt', state: 'joining' as const };
  expect(text(joining)).toMatch(/^now +joining\b.*\bbolt$/m);
  const one = { ...exampleStatus().jobs[0]!, ...joining };
  expect(text({ jobs: [one, { ...one, jobName: null }] })).toMatch(/^bolt +joining\b.*^job 2 +joining\b/ms);
});

test.each([
  [80, 24],
  [40, 12],
  [20, 5],
  [200, 60],
])('fits into %i × %i and shows no control characters', (columns, rows) => {
  const evil = { ...JOB, name: EVIL, base: { ...JOB.base, name: EVIL } };
  const long = 'a reason that is too long '.repeat(40);
  const terminal = new FakeTerminal(columns, rows);
  const warnings = Array.from({ length: 5 }, () => ({ text: EVIL + long, count: 3, at: 0 }));
  const news = Array.from({ length: 9 }, (_, i) => ({ at: i, text: EVIL + long }));
  const hostile = state(
    { name: 'n'.repeat(64), job: evil, state: 'awaiting', reason: EVIL + long, engineNote: long },
    { warnings, news },
  );
  const lines = screenLines(hostile, terminal);
  for (const line of lines) expect(line).not.toMatch(/\p{Cc}/u);
  if (columns >= 40) for (const line of lines) expect(columnsOf(line)).toBeLessThan(columns);
  new LiveArea(terminal).draw(lines);
  expect(terminal.lines.length).toBeLessThan(rows);
});

it('draws in the same place, also after the terminal became narrower', () => {
  const terminal = new FakeTerminal(80, 24);
  terminal.write('before\n');
  const area = new LiveArea(terminal);
  area.draw(['a'.repeat(60), 'second', 'third']);
  area.draw(['one', 'two']);
  expect(terminal.lines).toEqual(['before', 'one', 'two']);
  area.draw(['x'.repeat(100)]);
  expect(terminal.lines).toEqual(['before', `${'x'.repeat(78)}…`]);
  terminal.resize(40);
  area.draw(['narrow']);
  expect(terminal.lines).toEqual(['before', 'narrow']);
  const { writes } = terminal;
  area.draw(['narrow']);
  expect(terminal.writes).toBe(writes);
  area.clear();
  expect(terminal.lines).toEqual(['before']);
});

it('keeps news and warnings on the screen, and repeats no warning', () => {
  const terminal = new FakeTerminal(80, 30);
  let now = 1000;
  const clock = { now: () => now, monotonic: () => now, after: () => () => {} };
  const warnings = new ScreenWarnings();
  const screen = new NodeScreen({ stderr: terminal, clock }, { warnings, logFile: 'log', homeFlag: '' });
  screen.show(exampleStatus({ step: 0, updates: [update(19), update(18), update(17)] }));
  const entry = { time: new Date(0).toISOString(), msg: 'train-failed', round: 20, reason: 'out of memory' };
  for (const one of [entry, entry, { ...entry, msg: 'peer-unreachable' }])
    warnings.write(JSON.stringify(one));
  now = 5000;
  screen.show(exampleStatus({ step: 4, updates: [update(20, { outcome: null }), update(19), update(18)] }));
  const shown = joined(terminal.lines);
  expect(shown).toMatch(/^warning .*\(round 20\): out of memory \(2 .*\)$/m);
  expect(shown).not.toContain('unreachable');
  // Four of eight steps took 4 s, and an update came every 10 s.
  expect(shown).toMatch(/\b50 %.*\b4\.0 s\b/);
  expect(shown).toMatch(/\b3 min 15 s\b.*\b20 of 40 rounds\b/);
  expect(shown).toMatch(/recent .*round 20 .*accepted/);
});

it('shows no failed request while the coordinator is away, nor after it has come back', () => {
  const terminal = new FakeTerminal(100, 40);
  let now = 0;
  const clock = { now: () => now, monotonic: () => now, after: () => () => {} };
  const warnings = new ScreenWarnings();
  const screen = new NodeScreen({ stderr: terminal, clock }, { warnings, logFile: 'log', homeFlag: '' });
  const fail = (msg: string, code = 'RPC_UNREACHABLE'): void =>
    warnings.write(JSON.stringify({ time: new Date(now).toISOString(), msg, code, reason: 'ECONNREFUSED' }));
  const unreachable = { reason: 'connection refused', failures: 4, retrySeconds: 12 };
  const away = { addresses: [], peer: null, connected: false, unreachable };
  screen.show(exampleStatus({}));
  fail('poll-failed');
  screen.show(exampleStatus({ coordinator: away }));
  expect(joined(terminal.lines)).toMatch(/^waiting .*connection refused/m);
  expect(joined(terminal.lines)).not.toMatch(/^warning/m);
  now = 20_000;
  screen.show(exampleStatus({ coordinator: away }));
  fail('ask-failed');
  screen.show(exampleStatus({}));
  expect(joined(terminal.lines)).not.toMatch(/^warning/m);
  now = 60_000;
  fail('poll-failed', 'RPC_TIMEOUT');
  screen.show(exampleStatus({}));
  expect(joined(terminal.lines)).toMatch(/^warning .*: ECONNREFUSED$/m);
});

it('estimates the time left only where it can', () => {
  expect(roundSeconds([update(3)])).toBeNull();
  expect(roundSeconds([update(9), update(7), update(6)])).toBe(10);
  const { status } = state();
  expect(new JobPace().next({ ...status, step: 0 }, 0)).toEqual({ round: null, job: null });
});

it('counts columns of wide and combining characters', () => {
  expect([columnsOf('模型'), columnsOf('e\u0301'), columnsOf('\u{1f4a3}')]).toEqual([4, 1, 2]);
  expect(cut('模型模型', 4)).toBe('模…');
  expect(cut('ab', 0)).toBe('');
  expect(wrap('one two three four', { columns: 8, lines: 2 })).toEqual(['one two', 'three f…']);
  expect(wrap(`a ${'x'.repeat(18)} b`, { columns: 8, lines: 4 })).toEqual([
    'a',
    'xxxxxxxx',
    'xxxxxxxx',
    'xx b',
  ]);
  expect(wrap('x'.repeat(20), { columns: 8, lines: 2 })).toEqual(['xxxxxxxx', 'xxxxxxx…']);
  expect([bar(-1, 4), bar(0.5, 4), bar(9, 4)]).toEqual(['░░░░', '██░░', '████']);
});
