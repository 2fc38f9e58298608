import { describe, expect, it } from 'vitest';
import {
  afterRollBackText,
  betterLines,
  checkpointLines,
  checkpointTable,
  initialLines,
  undoneBestText,
} from '../../../cli/views/checkpoints.ts';
import { EventLines } from '../../../cli/views/events.ts';
import { NodeProgress, nodeLines, targetLines, updateLine } from '../../../cli/views/node.ts';
import { NodeLines } from '../../../cli/views/node-news.ts';
import { banLines, peerLines, presentLines, receiptLines } from '../../../cli/views/peers.ts';
import {
  changeLines,
  coordinatorLines,
  evaluationLines,
  inviteLines,
  jobActivity,
  jobLines,
  orderText,
  phaseCell,
  progressText,
  rollBackText,
} from '../../../cli/views/status.ts';
import { phaseText, roundLeftText } from '../../../common/text.ts';
import { NOT_YET_CONNECTED } from '../../../monitor/node-state.ts';
import { ordersText, shortOrdersText } from '../../../monitor/pending-orders.ts';
import type {
  CheckpointView,
  CoordinatorStatus,
  JobDetail,
  JobSummary,
} from '../../../protocol/api/coordinator.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';
import type { NodeStatus, NodeUpdate } from '../../../protocol/api/node.ts';
import type { PeerView } from '../../../protocol/api/peers.ts';
import { exampleStatus, JOB, NO_COST } from '../../utils/swarm/node-status.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;
const DIGEST = 'ab'.repeat(32);
const EVIL = 'ot\u001b[2Jter\nswarm: fine';

const job: JobSummary = {
  job: DIGEST,
  name: 'moby',
  phase: 'training',
  round: 3,
  rounds: 8,
  roundsDone: 2,
  secondsLeft: 18,
  peers: 1,
  baseLoss: 5,
  heldOutLoss: 4.5,
  checkpoint: { round: 2, digest: DIGEST },
  tokensPerSecond: 2100,
  reason: '',
  health: { level: 'green', reason: 'training', next: '' },
  best: { round: 2, heldOutLoss: 4.5 },
  lowestLoss: 4.5,
  rolledBack: null,
  isHeld: false,
  waitingNodes: [],
  needsOperator: false,
  priority: 0,
  after: null,
  newestChange: null,
  tasks: null,
  pendingOrders: [],
  invite: 'swarm1abc',
};

const status = (jobs: JobSummary[]): CoordinatorStatus => ({
  schemaVersion: 1,
  role: 'coordinator',
  peerId: PEER,
  addresses: ['/ip4/1.2.3.4/tcp/1', '/ip4/5.6.7.8/tcp/1'],
  reach: ['/ip4/1.2.3.4/tcp/1', '/ip4/5.6.7.8/tcp/1'].map((address) => ({
    ...{ address, announced: true, reach: 'internet' as const, check: null },
  })),
  version: '1.0.0',
  uptimeSeconds: 8040,
  traffic: { sent: 1_200_000, received: 400 },
  jobs,
});

/** Asserts that text from a peer cannot move the cursor or start a line. */
function expectSafe(lines: readonly string[]): void {
  for (const line of lines) expect(line, JSON.stringify(line)).not.toMatch(/\p{Cc}/u);
}

describe('the status of a coordinator', () => {
  it('has addresses, traffic, jobs and the next command', () => {
    const text = coordinatorLines(status([job]), 'http://127.0.0.1:1').join('\n');
    for (const part of [
      PEER,
      '2 h 14 min',
      '/ip4/5.6.7.8/tcp/1',
      '1.2 MB',
      '2,100 tokens/s',
      'swarm1abc',
      'lora-swarm peers',
    ]) {
      expect(text, part).toContain(part);
    }
    expect(text).toMatch(/\b3\b.*\b8\b.*training.*\b18 s\b/);
    expect(text).toMatch(/4\.5000 .*initial adapter 5\.0000.*−0\.5000/);
    expect(text).not.toContain('best');
    const behind = { ...job, best: { round: 1, heldOutLoss: 4.4 }, rolledBack: { round: 7, to: 1 } };
    expect(coordinatorLines(status([behind]), '').join('\n')).toMatch(/4\.4000.*\b1\b.*\b7\b.*\b1\b/s);
    expect(coordinatorLines(status([]), '').at(-1)).toContain('lora-swarm job create');
    expect(coordinatorLines(status([{ ...job, phase: 'finished' }]), '').at(-1)).toContain(
      'lora-swarm checkpoint export moby',
    );
    expect(coordinatorLines(status([{ ...job, phase: 'waiting', peers: 0 }]), '').at(-1)).toContain(
      'lora-swarm node',
    );
    // One node has joined, and the job waits for more.
    expect(coordinatorLines(status([{ ...job, phase: 'waiting' }]), '').at(-1)).toContain(
      'lora-swarm node -',
    );
    expect(coordinatorLines(status([{ ...job, phase: 'paused', needsOperator: true }]), '').at(-1)).toContain(
      'lora-swarm job resume moby',
    );
    expectSafe(coordinatorLines(status([{ ...job, reason: EVIL }]), ''));
  });
});

describe('a job with tasks', () => {
  const every = (n: number): JobDetail =>
    ({
      ...job,
      settingsChanges: [],
      tasks: { every: n, metric: null, newest: null, best: null },
    }) as unknown as JobDetail;

  it('says how often its checkpoints are evaluated, and what a change of this does', () => {
    expect(evaluationLines(every(1))).toEqual([expect.stringMatching(/^tasks +\D+$/)]);
    expect(evaluationLines(every(5))).toEqual([expect.stringMatching(/^tasks .*\b5 checkpoints\b/)]);
    expect(evaluationLines({ ...every(1), tasks: null })).toEqual([]);
    expect(changeLines(every(5), every(2))).toEqual(['tasks.every 5 → 2']);
    expect(changeLines(every(5), every(5))).toEqual([expect.not.stringMatching(/→|tasks/)]);
  });
});

describe('a job that has ended', () => {
  const finished: JobSummary = { ...job, phase: 'finished', round: 9, roundsDone: 8 };
  const stopped: JobSummary = { ...job, phase: 'finished', round: 2, roundsDone: 1 };

  it('is finished or stopped, and has a number of checkpoints instead of a round', () => {
    expect([finished, stopped, job].map(phaseText)).toEqual(['finished', 'stopped', 'training']);
    expect(progressText(finished)).toContain('8 of 8');
    expect(progressText(stopped)).toContain('1 of 8');
    expect(progressText(job)).toBe('round 3 of 8');
    expect(coordinatorLines(status([stopped]), '').join('\n')).toMatch(/1 of 8.*stopped/);
  });

  it('shows no invite', () => {
    expect(coordinatorLines(status([finished]), '').join('\n')).not.toContain('invite');
    expect(inviteLines([finished, stopped])).toEqual([]);
    expect(inviteLines([job, { ...job, invite: null }]).join('\n')).toMatch(/moby: swarm1abc\n.*revoked/);
  });
});

describe('the effect of an order', () => {
  const pause = { action: 'pause', reason: `moving ${EVIL}`, to: null } as const;
  const pausing: JobSummary = { ...job, phase: 'validating', pendingOrders: [pause] };

  it('comes after the round that is being merged, and is shown until then', () => {
    const activity = jobActivity({
      ...pausing,
      updates: { assigned: [], received: [] },
    } as unknown as JobDetail);
    const shown = [orderText(pausing, 'pause'), jobLines(pausing)[0]!, activity!];
    for (const line of shown) expect(line).toMatch(/\bpauses\b.*\bround 3\b.*: moving/);
    expectSafe(shown);
    const stopping = { ...pausing, pendingOrders: [{ action: 'stop', reason: '', to: null } as const] };
    expect(orderText(stopping, 'stop')).toMatch(/\bmoby stops\b.*\bround 3\b/);
    const last = orderText({ ...pausing, round: 8, roundsDone: 7 }, 'pause');
    expect(last).toContain('round 8');
    // The last round completes the job, unless its merge fails.
    expect(last).not.toBe(orderText({ ...pausing, round: 8, roundsDone: 6 }, 'pause'));
  });

  it('is named in a few words in a table', () => {
    const rollBack = { action: 'roll-back', reason: '', to: 1 } as const;
    expect(shortOrdersText({ pendingOrders: [rollBack, pause] })).toMatch(/^, .*\brolled back, .*\bpaused$/);
    expect(ordersText({ ...pausing, pendingOrders: [rollBack] })).toMatch(/\bround 1\b.*\bround 3\b/);
    expect(ordersText(job)).toBe('');
    expect(phaseCell(pausing)).toMatch(/^validating, .*\bpaused$/);
  });

  it('that cancels a pause is named', () => {
    const resumed = { ...pausing, pendingOrders: [] };
    expect(orderText(resumed, 'resume', pausing)).toMatch(/\bmoby\b.*\bpauses\b.*\bround 3\b.*\bvalidating$/);
    expect(orderText(resumed, 'resume', resumed)).toMatch(/\bmoby\b(?!.*pauses).*\bvalidating$/);
  });

  it('waits while the job is held, which the table of jobs shows', () => {
    expect(phaseCell({ ...job, isHeld: true })).toBe('training, held');
    expect(phaseCell(job)).toBe('training');
    expect(phaseCell({ ...job, phase: 'queued', after: { job: 'x', name: 'first' } })).toMatch(
      /^queued\b.*\bfirst$/,
    );
  });

  it('comes at once without such a round', () => {
    const paused: JobSummary = { ...job, phase: 'paused', reason: 'lunch' };
    expect(orderText(paused, 'pause')).toMatch(/\bmoby\b.*\bpaused after round 2: lunch$/);
    expect(orderText(job, 'resume')).toMatch(/\bmoby\b.*\btraining$/);
    expect(orderText({ ...job, phase: 'finished' }, 'stop')).toMatch(/\bmoby\b.*\bstopped$/);
  });
});

it('a roll-back of a paused job is not called a pause', () => {
  const pause = { action: 'pause', reason: 'lunch', to: null } as const;
  const rollBack = { action: 'roll-back', reason: '', to: 1 } as const;
  const after = (phase: JobSummary['phase'], ...pendingOrders: JobSummary['pendingOrders']): string =>
    rollBackText({ ...job, phase, pendingOrders }, 'the checkpoint of round 1');
  const stays = /goes back\b.*\bround 1\b.*\bpaused$/;
  expect([after('validating', pause), after('paused')]).toEqual([
    expect.stringMatching(stays),
    expect.stringMatching(stays),
  ]);
  expect(after('validating')).toMatch(/goes back\b.*\bround 1\b(?!.*\bpaused)/);
  // A round that is being merged ends first.
  expect(after('validating', rollBack, pause)).toMatch(/\brestores\b.*\bround 1\b.*\bround 3\b.*\bpauses\b/);
});

describe('the activity of a job', () => {
  const detail = (changes: Partial<JobDetail>): JobDetail =>
    ({
      ...job,
      settings: { minPeers: 2 },
      updates: { round: 3, assigned: ['a', 'b'], received: ['a'] },
      ...changes,
    }) as JobDetail;

  it('has the time to the deadline of the round in the same words as the status', () => {
    for (const line of [jobActivity(detail({}))!, jobLines(job)[0]!])
      expect(line).toContain(roundLeftText(18));
  });

  it('is one line with the figures of its phase', () => {
    expect(jobActivity(detail({ peers: 4 }))).toMatch(
      /\b3\b.*\b8\b.*training.*\b4\b.*\b1\b.*\b2\b.*\b18 s\b/,
    );
    expect(jobActivity(detail({ phase: 'waiting' }))).toMatch(/\b1\b.*\b2\b.*lora-swarm node -/);
    const enough = jobActivity(detail({ phase: 'waiting', peers: 2 }));
    expect(enough).toMatch(/\b2\b/);
    expect(enough).not.toContain('lora-swarm node');
    const paused = jobActivity(detail({ phase: 'paused', reason: EVIL }))!;
    expect(paused).toContain('round 2');
    expectSafe([paused]);
    expectSafe([jobActivity(detail({ phase: 'queued', reason: EVIL }))!]);
    expect(jobActivity(detail({ phase: 'finished' }))).toBeNull();
  });
});

it('the status of a job counts the nodes that take no work, by reason', () => {
  expect(jobLines(job).join('\n')).not.toMatch(/clock|disk/);
  const waitingNodes = [
    { reason: 'clock', nodes: 1 },
    { reason: 'disk', nodes: 2 },
  ] as const;
  const lines = jobLines({ ...job, waitingNodes: [...waitingNodes] });
  expect(lines.join('\n')).toMatch(/\b3 nodes: clock, 2 disk\b/);
});

describe('peers', () => {
  const nothing = { receipts: [], scores: [], standings: [], strikes: [], bans: [] };
  const peer: PeerView = {
    peer: PEER,
    name: EVIL,
    person: PEER,
    role: 'contributor',
    job: DIGEST,
    jobName: 'moby',
    address: null,
    connected: false,
    state: 'lost',
    hold: null,
    round: 2,
    step: 5,
    steps: 20,
    tokensPerSecond: 800,
    engine: 'onnx-cpu',
    rttMs: null,
    lastSeenSeconds: 90,
    stillSeconds: 90,
    health: { level: 'red', reason: 'no heartbeat for 2 min', next: '' },
    accepted: 1,
    refused: 2,
    unmerged: 0,
    tokens: 4_000,
    last: { round: 2, code: 'malformed', detail: EVIL },
    standing: 'suspended',
    strikes: 3,
    score: { job: DIGEST, round: 2, belief: 0.625, share: 0.9, effect: 0.02, gain: 0.01, exact: null },
    bytesSent: 1000,
    bytesReceived: 0,
  };

  it('that cannot join are shown with what they wait for', () => {
    const clock = { reason: 'clock', detail: '2 min 0 s ahead' } as const;
    const health = { level: 'yellow', reason: 'takes no work: the clock is wrong', next: '' } as const;
    const lost = { ...peer, hold: clock, health };
    const version = { reason: 'version', detail: 'it runs lora-swarm/9.0.0' } as const;
    const other = { ...lost, state: 'joining', hold: version, job: '', jobName: '' } as const;
    const lines = peerLines([lost, other]).join('\n');
    expect(lines).toMatch(/\(version\).*\n.*\(clock\)/);
    const present = presentLines([lost, other]);
    expect(present[0]).toMatch(/^now\b.*\bmoby: lost, .*2 min 0 s ahead/);
    expect(present[1]).toMatch(/^now: joining, .*runs lora-swarm\/9\.0\.0/);
  });

  it('have one line each, without control characters of their names', () => {
    const lines = peerLines([peer]);
    expect(lines).toHaveLength(2);
    expectSafe(lines);
    for (const part of ['lost', '1/3', '0.63', 'suspended', '1 min 30 s', 'malformed']) {
      expect(lines[1], part).toContain(part);
    }
    const silent = peerLines([{ ...peer, state: 'training' }])[1];
    expect(silent).toMatch(/training\b.* 2 \(5\/20\)/);
    // Connected nodes come first, and nodes that are gone come last.
    const connected = peerLines([peer, { ...peer, state: 'training', connected: true }])[1];
    expect(connected).toContain('training ');
    expect(silent, 'shows that the node is not connected').not.toContain('training ');
    expect(peerLines([{ ...peer, role: 'observer' }])[1]).toContain('observer');
    expect(connected).not.toContain('contributor');
    expect(peerLines([]).join()).toContain('lora-swarm node');
    const narrow = peerLines([peer, { ...peer, state: 'training' }], 100);
    for (const line of narrow.slice(0, 3)) expect(line.length).toBeLessThan(100);
    expect(narrow[3]).toContain('sent');
    expect(narrow[1]).toContain('training');
    const ill = {
      ...peer,
      rttMs: 12.4,
      health: { level: 'red', reason: `stuck ${EVIL}`, next: '' },
    } as const;
    for (const shown of [peerLines([ill]), presentLines([ill])]) {
      expectSafe(shown);
      for (const part of ['red', 'stuck', '12 ms', '1 min 30 s']) expect(shown.join(), part).toContain(part);
    }
    const paused = { round: 2, code: 'null-round', detail: 'the job was paused' } as const;
    const dropped = peerLines([{ ...peer, accepted: 29, refused: 0, unmerged: 2, last: paused }])[1];
    for (const part of ['29/31', 'not merged: the job was paused']) expect(dropped, part).toContain(part);
    const well = { ...peer, health: { level: 'green', reason: 'training', next: '' } } as const;
    expect(peerLines([well])[1]).not.toContain('green');
    expect(presentLines([well])[0]).toContain('green (training)');
  });

  it('have a reason for each refused update', () => {
    const receipt = {
      job: DIGEST,
      jobName: 'moby',
      round: 2,
      code: 'malformed' as const,
      detail: EVIL,
      meaning: 'not CBOR',
      isMerged: false,
      at: 0,
    };
    const inJob = { job: DIGEST, jobName: 'moby' };
    const other = { job: 'cd'.repeat(32), jobName: 'ahab' };
    const lines = receiptLines({
      peer: PEER,
      ...nothing,
      receipts: [receipt],
      scores: [
        { ...inJob, round: 7, belief: 0.625, share: 0.9, effect: 0.0123, gain: -0.004, exact: -0.25 },
        { ...inJob, round: 6, belief: 0.25, share: null, effect: null, gain: null, exact: null },
        { ...other, round: 8, belief: 1, share: 1, effect: null, gain: null, exact: null },
      ],
    });
    expectSafe(lines);
    expect(lines[1]).toMatch(/ 2 +malformed .*1970/);
    expect(lines[2]).toContain(receipt.meaning);
    expect(lines[4]).toMatch(/ 7 .*0\.63.*0\.90.*0\.0123.*-0\.00400.*-0\.250$/);
    expect(lines[5]).toMatch(/ 6 .*0\.25.*unknown$/);
    expect(lines[6]).toContain('ahab');
    expect(lines[7]).toMatch(/ 8 .*1\.00/);
    expect(receiptLines({ peer: PEER, ...nothing })).toHaveLength(1);
    const merged = { ...receipt, code: 'accepted' as const, meaning: 'may be merged', isMerged: true };
    const shown = receiptLines({ peer: PEER, ...nothing, receipts: [merged] });
    expectSafe(shown);
    expect(shown[1]).toMatch(/ 2 +accepted .*merged/);
    expect(shown.join()).not.toContain(merged.meaning);
  });

  it('have their standing, and evidence for each strike and ban', () => {
    const person = 'invite:0123456789ab';
    const strike = {
      job: DIGEST,
      jobName: 'moby',
      peer: PEER,
      kind: 'harmful',
      meaning: 'raises the loss',
      round: 3,
    } as const;
    const found = {
      foundIn: 4,
      digest: 'ab'.repeat(32),
      receipt: 'harmful',
      at: 0,
      pardonedAt: null,
    } as const;
    const ban = {
      peer: PEER,
      name: 'otter',
      person,
      inviteName: 'bob',
      job: null,
      jobName: null,
      cause: 'operator',
      reason: EVIL,
      at: 0,
      until: null,
    } as const;
    const lines = receiptLines({
      peer: PEER,
      ...nothing,
      standings: [
        {
          job: DIGEST,
          jobName: 'moby',
          person,
          invite: { id: '0123456789ab', name: 'Ada' },
          standing: 'suspended',
          untilRound: 7,
          strikes: 3,
        },
      ],
      strikes: [{ ...strike, ...found, figures: { effect: -0.01234, error: 0.001 } }],
      bans: [{ ...ban, pardonedAt: null }],
    });
    expectSafe(lines);
    expect(lines[1]).toMatch(/\bmoby: suspended\b.*\bround 7, 3 strikes\b.*Ada.*0123456789ab/);
    expect(lines[0]).toMatch(/^banned 1970-\S+ (?!.*(?:abab|\d{4}-)).*: ot/);
    const limited = { ...ban, job: DIGEST, until: Date.UTC(2030, 0), pardonedAt: null };
    const limits = /abababababab.*\b2030-01-01/;
    const shown = receiptLines({ peer: PEER, ...nothing, bans: [limited] })[0];
    expect(shown).toMatch(limits);
    const named = { ...limited, jobName: 'moby' };
    const inMoby = /^(?!.*abab).*\bjob moby\b/;
    expect(receiptLines({ peer: PEER, ...nothing, bans: [named] })[0]).toMatch(inMoby);
    expect(banLines([named])[2]).toMatch(inMoby);
    expect(lines[3]).toMatch(
      / 3 .*harmful.*1970.*\bround 4\b.*\bupdate abab.*\breceipt harmful\b.*\beffect -0\.0123/,
    );
    expect(lines[4]).toContain(strike.meaning);
    expect(banLines([limited])[2]).toMatch(limits);
    expect(banLines([{ ...ban, pardonedAt: null }])[2]).not.toMatch(/abab|\d{4}-/);
    expectSafe(banLines([{ ...ban, pardonedAt: null }]));
    expect(banLines([{ ...ban, pardonedAt: null }])[2]).toMatch(/^otter ….*bob \(invite:0123456789ab\)/);
    const former = [{ peer: ban.peer, name: 'heron' }];
    expect(banLines([{ ...ban, pardonedAt: null }], { former })[2]).toMatch(/^otter, heron …/);
    expect(banLines([])).toEqual([]);
  });
});

describe("a job's events", () => {
  const event = (body: object): JobEvent => ({ sequence: 1, at: 0, job: DIGEST, ...body }) as JobEvent;
  const checkpoint = {
    type: 'checkpoint',
    digest: DIGEST,
    updates: 3,
    updateBytes: 49_000,
    bytesPerParameter: 0.508,
    tokensPerSecond: 2391,
    seconds: 8.2,
  };

  it('give one line per round with loss, change, speed and bytes', () => {
    const lines = new EventLines({ baseLoss: 4.6 });
    const first = lines.line(event({ ...checkpoint, round: 1, heldOutLoss: 4.5 }));
    for (const part of [
      'round   1',
      '4.5000 (−0.1000)',
      '3 updates',
      '49 kB',
      '0.508 B',
      '2,391 tokens/s',
      '8.2 s',
    ]) {
      expect(first, part).toContain(part);
    }
    expect(lines.line(event({ ...checkpoint, round: 2, heldOutLoss: 4.55 }))).toContain('+0.0500');
  });

  it('give a line for each decision about a node, and none for a single strike', () => {
    const lines = new EventLines();
    const struck = { type: 'struck', peer: PEER, round: 1, kind: 'harmful', standing: 'good' };
    expect(lines.line(event(struck))).toBeNull();
    const suspended = { type: 'suspended', peer: PEER, round: 3, until: 7, suspensions: 1 };
    expect(lines.line(event(suspended))).toMatch(/\bround 7\b/);
    const banned = { type: 'banned', peer: PEER, cause: 'strikes', reason: 'because', until: 0 };
    expect(lines.line(event(banned))).toMatch(/until 1970.*because/);
    expect(lines.line(event({ ...banned, until: null }))).toMatch(/^(?!.*1970).*because$/);
    expect(lines.line(event({ type: 'pardoned', peer: PEER, strikes: 1, bans: 0 }))).toMatch(/pardoned/);
    const fault = { type: 'shared-fault', round: 4, faulty: 3, updates: 5 };
    expect(lines.line(event(fault))).toMatch(/\b4\b.*3 of 5 updates are/);
    expect(lines.line(event({ ...fault, faulty: 1, updates: 1 }))).toMatch(/1 of 1 update is .* is /);
  });

  it('says which checkpoints of a restored database are dropped', () => {
    const lines = new EventLines();
    const caught = { type: 'caught-up', before: 11, term: 3, checkpoints: 0, missing: 0 };
    expect(lines.line(event({ ...caught, round: 10 }))).toMatch(/after round 10 \(term 3\).*dropped/);
    expect(lines.line(event({ ...caught, round: 12 }))).not.toContain('dropped');
  });

  it('give a line for a refused update, and none for an accepted one', () => {
    const lines = new EventLines();
    const update = { type: 'update', round: 1, peer: PEER, bytes: 1, tokens: 1, seconds: 1 };
    expect(lines.line(event({ ...update, code: 'accepted', detail: '' }))).toBeNull();
    const refused = lines.line(event({ ...update, code: 'bad-payload', detail: EVIL }));
    expect(refused).toContain('bad-payload');
    const shown = [
      refused,
      lines.line(event({ type: 'peer-joined', peer: PEER, name: EVIL, engine: EVIL })),
      lines.line(event({ type: 'peer-lost', peer: PEER, name: EVIL, reason: 'silent' })),
      lines.line(event({ type: 'null-round', round: 1, reason: EVIL })),
      lines.line(event({ type: 'evaluation-fallback', reason: EVIL })),
      lines.line(event({ type: 'scoring-failed', round: 1, reason: EVIL })),
      lines.line(event({ type: 'paused', reason: EVIL, nextRound: 4 })),
      lines.line(event({ type: 'tasks-changed', key: 'tasks.every', before: 5, after: 2, reason: EVIL })),
      lines.line(event({ type: 'banned', peer: PEER, cause: 'operator', reason: EVIL, until: null })),
      lines.line(event({ type: 'priority-changed', before: 0, after: 7, reason: EVIL })),
    ].filter((line) => line !== null);
    expect(shown).toHaveLength(10);
    expect(shown[6]).toContain('round 3');
    expect(lines.line(event({ type: 'paused', reason: 'lunch' }))).toBe('paused: lunch');
    expect(shown[7]).toContain('tasks.every 5 → 2');
    expect(lines.line(event({ type: 'priority-changed', before: 0, after: 7, reason: 'urgent' }))).toBe(
      'priority 0 → 7: urgent',
    );
    expect(lines.line(event({ type: 'priority-changed', before: 0, after: 7 }))).toBe('priority 0 → 7');
    expectSafe(shown);
    const back = { type: 'rolled-back', round: 3, to: 1, heldOutLoss: 4.5, lossBefore: 4.6, reason: EVIL };
    expect(lines.line(event(back))).toMatch(/\b3\b.*\b1\b.*4\.5000.*4\.6000/);
    expectSafe([lines.line(event(back))!]);
    const dropped = {
      type: 'scorer-failed',
      round: 3,
      peer: PEER,
      work: 'tasks',
      reason: EVIL,
      isWrong: false,
    };
    expectSafe([lines.line(event(dropped))!, lines.line(event({ ...dropped, isWrong: true }))!]);
    const tasks = {
      type: 'tasks-evaluated',
      round: 3,
      figures: {},
      metric: 'words.acc,none',
      value: 0.5,
      seconds: 1,
    };
    const evaluated = lines.line(event({ ...tasks, isBest: false, scorer: PEER }));
    expect(evaluated).toContain(PEER.slice(-6));
    const huge = lines.line(event({ ...tasks, isBest: true, value: 1.0473110411909363e72 }));
    expect(huge).toMatch(/\bwords\.acc 1\.047e72,/);
    const scores = { type: 'scored', round: 3, scored: 4, unscored: 0, harmful: 1, rows: 60, seconds: 1 };
    expect(lines.line(event({ ...scores, disbelieved: 0 }))).toBeNull();
    expect(lines.line(event({ ...scores, disbelieved: 2 }))).toMatch(/\b3\b.*\b2 updates\b/);
    const end = { type: 'finished', round: 8, heldOutLoss: 4, baseLoss: 5 };
    expect(lines.line(event(end))).toMatch(/^finished: .*−20\.0 %/);
    // The newest events of a job do not say how many rounds it has.
    expect(lines.line(event({ ...end, stopReason: 'enough' }))).toMatch(/^stopped\b.*enough.*−20\.0 %/);
    lines.line(event({ type: 'job-created', name: 'moby', parameters: 1, rounds: 9 }));
    expect(lines.line(event({ ...end, round: 0 }))).toMatch(/^(?!finished).*\b0\b.*\b9\b[^%]*$/);
    for (let round = 1; round <= 8; round++) lines.line(event({ ...checkpoint, round }));
    expect(lines.line(event(end))).toMatch(/^(?!finished).*\b8\b.*\b9\b.*−20\.0 %/);
    // A null round has a number, but does not count.
    lines.line(event({ type: 'null-round', round: 9, reason: 'too few' }));
    lines.line(event({ ...checkpoint, round: 10 }));
    expect(lines.line(event({ ...end, round: 10 }))).toMatch(/^finished/);
    const lost = { type: 'peer-lost', peer: PEER, name: 'otter', reason: 'left' };
    expect(lines.line(event(lost))).not.toMatch(/ready/);
    expect(lines.line(event({ ...lost, joined: true }))).toMatch(/\bleft\b.*\bnot ready\b/);
    // A node that has not chosen its engine yet sends an empty name.
    const joined = { type: 'peer-joined', peer: PEER, name: 'otter', engine: '' };
    expect(lines.line(event({ ...joined, engine: 'onnx-cpu' }))).toContain('(onnx-cpu)');
    expect(lines.line(event(joined))).toMatch(/otter[^()]*$/);
    const held = { type: 'peer-held', peer: PEER, name: 'otter', reason: 'disk', detail: 'needs 2 GiB' };
    expect(lines.line(event(held))).toMatch(/^! otter (?!.*joined).*needs 2 GiB$/);
    expect(lines.line(event({ ...held, joined: true }))).toMatch(/^! otter .*joined.*needs 2 GiB$/);
  });
});

describe('checkpoints', () => {
  it('are listed, and shown with contributors and metrics', () => {
    const view: CheckpointView = {
      round: 2,
      digest: DIGEST,
      parent: null,
      restores: null,
      kept: true,
      isBest: false,
      tasks: null,
      path: '/c/0002',
      checkpoint: {
        job: DIGEST,
        term: 1,
        round: 2,
        base: DIGEST,
        parent: null,
        adapter: { digest: DIGEST, size: 1_300_000 },
        delta: null,
        contributors: [{ peer: PEER, update: DIGEST, round: 2, tokens: 1536, weight: 0.5 }],
        metrics: {
          heldOutLoss: 4.5,
          heldOutTokens: 4069,
          trainLoss: null,
          tokens: 1536,
          seconds: 9,
          outerRate: 1,
          updateBytes: 84_000,
          drift: 0.01,
        },
        createdAt: 0,
      },
    };
    expect(checkpointTable([view])[1]).toMatch(/2 +4\.5000 +1 +1,536 +84 kB +kept +abab/);
    const [contributor] = view.checkpoint.contributors;
    const late = { ...contributor!, round: 1 };
    const withLate = { ...view, checkpoint: { ...view.checkpoint, contributors: [late, contributor!] } };
    expect(checkpointTable([withLate])[1], 'two updates of one node').toMatch(/2 +4\.5000 +1 +1,536/);
    const adapter = { digest: 'ef'.repeat(32), size: 1 };
    const better = {
      ...{ ...view, round: 1, digest: 'cd'.repeat(32), isBest: true },
      checkpoint: { ...view.checkpoint, adapter },
    };
    const newest = { ...view, isBest: false };
    expect(betterLines(newest, [newest, better])).toEqual([
      expect.stringMatching(/\bround 1\b.* 4\.5000 .*--round best/),
    ]);
    const withMetric = (one: CheckpointView, value: number): CheckpointView => ({
      ...one,
      tasks: { figures: {}, value, reason: '', seconds: 1, at: 0 },
    });
    const [line] = betterLines(withMetric(newest, 0.5), [withMetric(better, 0.75)]);
    expect(line).toMatch(/ 0\.7500 .* 0\.5000\b/);
    expect(line).not.toContain('4.5000');
    // A loss says nothing beside a metric. The newest checkpoint is often not evaluated yet.
    const [unlike] = betterLines(newest, [withMetric(better, 0.75)]);
    expect(unlike).toMatch(/ 0\.7500 .*\bnot evaluated\b/);
    expect(unlike).not.toContain('4.5000');
    const restoring = { ...newest, restores: 1, checkpoint: better.checkpoint };
    expect(betterLines(restoring, [restoring, better]), 'the same adapter').toEqual([]);
    expect(betterLines(better, [view, better])).toEqual([]);
    expect([initialLines(0).length, initialLines(1)]).toEqual([1, []]);
    const after = afterRollBackText({ ...job, name: 'moby', rounds: 40, roundsDone: 32 });
    expect(after).toMatch(/^at most 7 checkpoints of 40 .* job set moby rounds\.count=N$/);
    const best = { round: 11, heldOutLoss: 1.75 };
    expect(undoneBestText({ name: 'moby', best }, 5)[0]).toMatch(/checkpoint publish moby --round 11$/);
    expect(undoneBestText({ name: 'moby', best }, 11)).toEqual([]);
    expect(undoneBestText({ name: 'moby', best: null }, 5)).toEqual([]);
    const restored = { ...view, restores: 1 };
    expect(checkpointTable([restored])[1]).toMatch(/2 .*\b1\b.*4\.5000/);
    expect(checkpointLines(restored).join('\n')).toMatch(/rolled back .*\b1\b/);
    const text = checkpointLines(view).join('\n');
    for (const part of ['/c/0002', '1.3 MB', 'drift', '1,536 tokens']) {
      expect(text, part).toContain(part);
    }
    const parent = 'cd'.repeat(32);
    expect(checkpointLines({ ...view, parent }).join('\n')).toContain(parent);
  });
});

describe('a node', () => {
  const update: NodeUpdate = {
    job: DIGEST,
    round: 1,
    update: DIGEST,
    bytes: 84_000,
    code: null,
    detail: '',
    meaning: 'no receipt yet',
    outcome: null,
    at: 0,
  };
  const node: NodeStatus = {
    schemaVersion: 1,
    role: 'node',
    peerId: PEER,
    name: 'otter',
    version: '1.0.0',
    addresses: [],
    reach: [],
    uptimeSeconds: 5,
    traffic: { sent: 0, received: 0 },
    engine: 'onnx-cpu',
    clockJump: null,
    engineNote: null,
    trainerRestarts: 0,
    coordinator: { addresses: ['/ip4/1.2.3.4/tcp/1'], peer: PEER, connected: true, unreachable: null },
    jobName: 'moby',
    job: {
      job: DIGEST,
      name: 'moby',
      base: { name: EVIL, digest: DIGEST, parameters: 3_000_000 },
      adapterParameters: 100_000,
      role: 'contributor',
      phase: 'training',
      reason: '',
      rounds: 8,
      roundsDone: 2,
      preset: 'dense',
      checkpoint: { round: 0, digest: DIGEST, heldOutLoss: 5 },
      newestChange: null,
    },
    state: 'training',
    reason: '',
    round: 1,
    missedRound: null,
    standing: { kind: 'good', untilRound: null, strikes: 0 },
    step: 3,
    steps: 20,
    tokensPerSecond: 800,
    download: null,
    done: false,
    followsJobs: false,
    hold: null,
    retrySeconds: null,
    totals: [],
    cost: NO_COST,
    pause: null,
    draining: false,
    limits: {},
    polite: false,
    jobs: [],
    updates: [update],
  };

  it('has a status with activity and engine', () => {
    const lines = nodeLines(node, 'http://127.0.0.1:1');
    expectSafe(lines);
    expect(lines.join('\n')).toMatch(/training\b.*\b1\b.*\b3\b.*\b20\b.*\b800 tokens\/s/);
    expect(lines.join('\n')).toMatch(/^engine +onnx-cpu$/m);
    const work = { accepted: 35, refused: 1, tokens: 1_200_000, seconds: 60 };
    const contribution = { round: 2, place: 1, contributors: 1, tokens: 5, totalTokens: 5 };
    const given = { job: JOB.job, name: 'moby', ...work, contribution };
    const text = nodeLines(exampleStatus({ totals: [given] }), '').join('\n');
    expect(text).toMatch(/^contributed .*35 rounds.*1,200,000 tokens/m);
    expect(text).toMatch(/^place .*1st of 1 contributor, .*100 %/m);
    expect(text).toMatch(/^costs .*\d threads\b.*\n^traffic .*\d/m);
    const reach = [
      { address: '/ip4/1.2.3.4/tcp/9', announced: true, reach: 'internet', check: null } as const,
    ];
    expect(nodeLines({ ...node, reach }, '').join('\n')).toMatch(/^addresses +\/ip4\/1\.2\.3\.4\/tcp\/9 /m);
    expect(nodeLines({ ...node, engine: '' }, '').join('\n')).not.toMatch(/^engine/m);
    expect(lines.join('\n')).not.toMatch(/^standing/m);
  });

  it('with several jobs has lines about each of them', () => {
    const shared = { ...node, weight: 2, trainerSeconds: 30, shutOut: null };
    const second: NodeStatus['jobs'][number] = {
      ...shared,
      job: { ...node.job!, job: 'cd'.repeat(32), name: 'alice' },
      jobName: 'alice',
      state: 'busy',
      reason: 'the trainer is busy with the job moby',
      weight: 1,
      trainerSeconds: 10,
    };
    const several = (other = second): NodeStatus => ({ ...node, jobs: [shared, other] });
    const lines = nodeLines(several(), 'http://127.0.0.1:1');
    expectSafe(lines);
    const text = lines.join('\n');
    expect(text).toMatch(
      /moby.*weight 2, 75 %.*training.*update.*alice.*weight 1, 25 %.*busy with the job moby/s,
    );
    expect(text.match(/^update/gm)).toHaveLength(1);
    const news = new NodeLines({ homeFlag: '' });
    const joined = news.next(several());
    expect(joined.filter((line) => line.startsWith('moby: '))).toHaveLength(3);
    expect(joined).toContainEqual(expect.stringMatching(/^alice: .*moby/));
    // Lines about the whole node have no job, and come once.
    const draining = { ...several(), jobs: several().jobs.map((one) => ({ ...one, draining: true })) };
    expect(news.next(draining)).toEqual([expect.stringMatching(/^(?!moby: |alice: )\S/)]);
    // The state of the job changes with the refusal, but only one line says why.
    const leaving = { state: 'leaving', round: 9, reason: 'you are banned' } as const;
    const refused = { ...second, ...leaving, shutOut: { code: 'BANNED', message: 'you are banned' } };
    expect(news.next(several(refused))).toEqual([expect.stringMatching(/^alice: .*you are banned/)]);
    expect(news.next(several(refused))).toEqual([]);
    expect(new NodeProgress().line(several(), 0)).toMatch(/^moby: training.*\b3\b.*\b20\b/);
  });

  it('has a standing, if there is something to say about it, and a line for each change', () => {
    const suspended = { ...node, standing: { kind: 'suspended', untilRound: 7, strikes: 3 } as const };
    expect(nodeLines(suspended, '').join('\n')).toMatch(/^standing +suspended\b.*\bround 7\b.*3 strikes/m);
    const news = new NodeLines({ homeFlag: '' });
    news.next(node);
    expect(news.next(suspended)).toEqual([expect.stringMatching(/\bsuspended\b.*\bround 7\b/)]);
    expect(news.next(suspended)).toEqual([]);
    expect(news.next(node)).toEqual([expect.stringMatching(/good/)]);
  });

  it('prints each change once: joining, rounds, outcomes of updates, the end', () => {
    const lines = new NodeLines({ homeFlag: '' });
    const joined = lines.next({ ...node, updates: [] });
    expectSafe(joined);
    expect(joined).toHaveLength(3);
    expect(joined[1]).toMatch(/moby.*\b3,000,000\b.*\b100,000\b/);
    expect(joined[2]).toMatch(/training\b.*\b1\b.*\b20\b/);
    expect(lines.next({ ...node, step: 9 })).toEqual([]);
    const taken = { ...update, code: 'accepted' as const, meaning: 'durably recorded' };
    const after: NodeStatus = {
      ...node,
      state: 'awaiting',
      reason: 'round 1 is delivered',
      updates: [taken],
    };
    expect(lines.next(after)).toEqual([
      expect.stringMatching(/\b1\b.*\b84 kB\b.*\baccepted\b.*\b800 tokens\/s/),
    ]);
    const undone = {
      ...taken,
      code: 'left-out' as const,
      meaning: 'worse with it',
      outcome: 'restored' as const,
    };
    // The line is printed once, when the outcome is known.
    expect(lines.next({ ...after, updates: [{ ...undone, outcome: null }] })).toEqual([]);
    const [printed, ...others] = lines.next({ ...after, updates: [undone] });
    expect(others).toEqual([]);
    expect(printed).toContain('left-out');
    expect(printed).toContain(undone.meaning);
    expect(printed, 'shows that the update is restored').not.toBe(updateLine({ ...undone, outcome: null }));
    expect(lines.next({ ...after, updates: [undone] })).toEqual([]);
    const lost = { ...after, updates: [undone], coordinator: { ...node.coordinator, connected: false } };
    expect(lines.next(lost)).toEqual([expect.stringContaining('coordinator')]);
    expect(lines.next(lost)).toEqual([]);
    const over = {
      ...lost,
      job: { ...node.job!, phase: 'finished' as const, roundsDone: node.job!.rounds },
    };
    expect(lines.next(over).join()).toMatch(/moby .*\bfinished\b.* 5\.0000.*Ctrl-C/);
    const paused = { ...over, job: { ...node.job!, phase: 'paused' as const, reason: EVIL } };
    const told = lines.next(paused);
    expect(told.join()).toMatch(/moby .*\bpaused (after|before) round \d+: ot.*ter/);
    expectSafe(told);
  });

  it('prints no update from before its start as new, and gives a speed only to a round that it trained', () => {
    const job = 'cd'.repeat(32);
    const taken = { ...update, code: 'accepted' as const, outcome: 'counted' as const };
    const old = { ...taken, job, round: 8, update: 'e1'.repeat(32) };
    const open = { ...taken, job, round: 9, update: 'e2'.repeat(32), code: null, outcome: null };
    const shared = { ...node, weight: 1, trainerSeconds: 0, shutOut: null };
    const joining = { ...shared, job: null, jobName: 'alice', state: 'joining' as const };
    const status = (other: NodeStatus['jobs'][number], updates: NodeStatus['updates']): NodeStatus => ({
      ...node,
      jobs: [shared, other],
      updates,
    });
    const alice = { ...shared, job: { ...node.job!, job, name: 'alice' }, jobName: 'alice' };
    const news = new NodeLines({ homeFlag: '' });
    news.next(status(joining, [open, old]));
    const joined = news.next(status(alice, [open, old]));
    expect(joined).toContainEqual(expect.stringMatching(/^alice: joined/));
    expect(joined.join('\n')).not.toMatch(/accepted/);
    const later = { ...open, code: 'accepted' as const, outcome: 'counted' as const };
    const [line, ...others] = news.next(status(alice, [later, old]));
    expect(others).toEqual([]);
    expect(line).toMatch(/^alice: round 9 .*accepted/);
    expect(line).not.toContain('tokens/s');
    const own = [11, 10].map((round) => ({ ...taken, job, round, update: String(round).padStart(64, '0') }));
    expect(news.next(status(alice, [...own, later, old]))).toEqual([
      expect.stringMatching(/^alice: round 10 (?!.*tokens)/),
      expect.stringMatching(/^alice: round 11 .*800 tokens/),
    ]);
  });

  it('shows only the updates of its present job', () => {
    const earlier = { ...update, job: 'ef'.repeat(32), round: 48 };
    const lines = nodeLines({ ...node, updates: [update, earlier] }, '').filter((line) =>
      /^update/.test(line),
    );
    expect(lines).toEqual([expect.stringMatching(/round 1\b/)]);
  });

  it('prints only what it is waiting for at first', () => {
    const alone = {
      ...node,
      job: null,
      state: 'joining' as const,
      reason: 'nothing listens there',
      coordinator: { ...node.coordinator, connected: false },
    };
    expect(new NodeLines({ homeFlag: '' }).next(alone)).toEqual([
      expect.stringMatching(/^joining.*nothing listens there$/),
    ]);
    const reached = { ...alone, reason: NOT_YET_CONNECTED, coordinator: node.coordinator };
    expect(new NodeLines({ homeFlag: '' }).next(reached)).toHaveLength(1);
  });

  it('prints once why it cannot join although it is connected', () => {
    const refused = { ...node, job: null, state: 'joining' as const, reason: 'onnx-cuda does not run here' };
    const line = expect.stringContaining(refused.reason);
    expect(new NodeLines({ homeFlag: '' }).next(refused)).toEqual([expect.any(String), line]);
    const lines = new NodeLines({ homeFlag: '' });
    lines.next({ ...refused, reason: NOT_YET_CONNECTED });
    expect(lines.next(refused)).toEqual([line]);
    expect(lines.next(refused)).toEqual([]);
  });

  it('names a coordinator once at the start, also with several of its jobs', () => {
    const of = (name: string, address: string, weight = 1): Parameters<typeof targetLines>[0][number] => ({
      ...{ name, addresses: [address], job: 'ab'.repeat(32), token: null, weight },
    });
    const shared = [of('beta', '/ip4/192.0.2.2/tcp/1'), of('gamma', '/ip4/192.0.2.2/tcp/1')];
    expect(targetLines([...shared, of('delta', '/ip4/192.0.2.3/tcp/1')])).toEqual([
      expect.stringMatching(/^rejoins .*beta/),
      expect.stringMatching(/^rejoins .*gamma/),
      'coordinator /ip4/192.0.2.2/tcp/1',
      expect.stringMatching(/^rejoins .*delta/),
      'coordinator /ip4/192.0.2.3/tcp/1',
    ]);
    const weighted = targetLines([shared[0]!, of('gamma', '/ip4/192.0.2.2/tcp/1', 2)]);
    expect(weighted.filter((line) => /^coordinator/.test(line))).toHaveLength(2);
  });

  it('prints once why it cannot join, if the reason is known only after its first line', () => {
    const joining = {
      ...node,
      job: null,
      state: 'joining' as const,
      reason: NOT_YET_CONNECTED,
      coordinator: { ...node.coordinator, connected: false },
    };
    const refused = { ...joining, reason: 'the coordinator does not run this job', retrySeconds: 15 };
    const lines = new NodeLines({ homeFlag: '' });
    expect(lines.next(joining)).toHaveLength(1);
    expect(lines.next(joining)).toEqual([]);
    expect(lines.next(refused)).toEqual([expect.stringContaining(refused.reason)]);
    expect(lines.next({ ...refused, retrySeconds: 14 })).toEqual([]);
    expect(lines.next({ ...refused, retrySeconds: null })).toEqual([]);
    // The reason of a node without a connection is the newest failure to connect.
    const unreachable = { reason: 'connection refused', failures: 1, retrySeconds: 1 };
    const alone = { ...joining, coordinator: { ...joining.coordinator, unreachable } };
    const others = new NodeLines({ homeFlag: '' });
    others.next(joining);
    expect(others.next(alone)).toEqual([expect.stringContaining(unreachable.reason)]);
    const again = { ...unreachable, failures: 2 };
    expect(others.next({ ...alone, coordinator: { ...alone.coordinator, unreachable: again } })).toEqual([]);
    // During a pause, the reason stays unsaid.
    const pause = { reason: 'battery', text: 'on battery', until: null } as const;
    const paused = { ...alone, pause, hold: { reason: pause.reason, detail: '' } };
    const rested = new NodeLines({ homeFlag: '' });
    rested.next({ ...joining, pause, hold: paused.hold });
    expect(rested.next(paused)).toEqual([]);
    expect(rested.next(alone)).toContainEqual(expect.stringContaining(unreachable.reason));
  });

  it('measures the speed of a download from the bytes that were there before', () => {
    const progress = new NodeProgress();
    const at = (bytes: number, now: number) =>
      progress.line({ ...node, download: { what: 'base', bytes, total: 3_000_000 } }, now);
    expect(at(1_000_000, 0)).toMatch(/\bbase\b.*\b33 %.*\b3\.0 MB$/);
    at(2_000_000, 10_000);
    expect(at(2_000_000, 10_500)).toMatch(/\bbase\b.*\b66 %.*\b3\.0 MB.*\b100 kB\/s.*\b9\.5 s\b/);
    const pause = { reason: 'traffic', text: 'used up', until: 0 } as const;
    const paused = { ...node, pause, hold: { reason: pause.reason, detail: '' } };
    const download = { what: 'base' as const, bytes: 2_000_000, total: 3_000_000 };
    expect(progress.line({ ...paused, download }, 10_700)).toBeNull();
    expect(progress.line(node, 11_000)).toMatch(/training\b.*\b3\b.*\b20\b/);
    expect(progress.line({ ...node, state: 'awaiting' }, 12_000)).toBeNull();
  });

  it('shows a download in its status', () => {
    const fetching = { ...node, download: { what: 'base' as const, bytes: 50, total: 200 } };
    expect(nodeLines(fetching, '').join('\n')).toMatch(/\bbase\b.*\b25 %.*\b200 B\b/);
  });
});
