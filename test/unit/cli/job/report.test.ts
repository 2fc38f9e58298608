import { expect, test } from 'vitest';
import { collectReport } from '../../../../cli/job/report/facts.ts';
import { jobPage } from '../../../../cli/job/report/page.ts';
import type { ApiClient, CheckpointView, JobDetail, JobEvent } from '../../../../index.ts';
import { manifestSchema } from '../../../../protocol/job/manifest.ts';

const [ANN, BOB] = [`12D3KooW${'a'.repeat(44)}`, `12D3KooW${'b'.repeat(44)}`];
const DIGEST = 'ab'.repeat(32);
const EVIL = `</pre><script>alert("1")</script>'&`;

const { lora, training, rounds, acceptance } = manifestSchema.shape;
const manifest = {
  base: { name: 'nano', digest: 'cd'.repeat(32), parameters: 3_200_000 },
  data: { rows: 99, tokens: 12_345, sequenceLength: 64, heldOut: { digest: 'ef'.repeat(32) } },
  lora: lora.parse({}),
  adapter: { parameters: 40_000 },
  training: training.parse({}),
  rounds: rounds.parse({}),
  acceptance: acceptance.parse({}),
  seed: 7,
};

const job = {
  job: DIGEST,
  name: 'moby',
  phase: 'paused',
  reason: EVIL,
  pendingOrders: [],
  rounds: 8,
  roundsDone: 2,
  baseLoss: 5,
  heldOutLoss: 4.5,
  best: { round: 2, heldOutLoss: 4.5 },
  checkpoint: { round: 2, digest: DIGEST },
  tasks: { metric: 'quiz.acc', best: { round: 2, value: 0.5 } },
  invite: 'swarm1secret',
  createdAt: 1000,
  settings: { learningRate: 0.0005, count: 12, minPeers: 1, maxSeconds: 60 },
  settingsChanges: [
    {
      fromRound: 2,
      changes: [{ key: 'rounds.count', before: 8, after: 12 }],
      reason: 'more data',
      digest: DIGEST,
      at: 2000,
    },
  ],
  manifest,
} as unknown as JobDetail;

const checkpoint = (round: number, heldOutLoss: number, peers: string[]): CheckpointView =>
  ({
    round,
    digest: String(round).repeat(64),
    restores: null,
    isBest: round === 2,
    tasks: round === 0 ? null : { figures: { 'quiz.acc': 0.25 * round, 'quiz.acc_stderr,none': 0.1 } },
    checkpoint: {
      contributors: peers.map((peer) => ({ peer, tokens: 1000 })),
      metrics: {
        heldOutLoss,
        trainLoss: round === 0 ? null : 4,
        tokens: 1000 * peers.length,
        updateBytes: 9,
      },
    },
  }) as unknown as CheckpointView;

const update = (peer: string, code: string) =>
  ({
    type: 'update',
    round: 1,
    peer,
    code,
    detail: '/ip4/9.9.9.9/tcp/1',
    bytes: 2048,
  }) as unknown as JobEvent;

const api = {
  job: async () => job,
  status: async () => ({ peerId: BOB }),
  checkpoints: async () => [checkpoint(2, 4.5, [ANN, BOB]), checkpoint(1, 4.75, [ANN]), checkpoint(0, 5, [])],
  peers: async () => [{ peer: ANN, name: EVIL, address: '/ip4/9.9.9.9/tcp/1' }],
  samples: async () => ({
    rounds: [2],
    result: {
      round: 2,
      texts: [
        { prompt: 'Call me', isHeldOut: false, before: 'a', after: EVIL },
        { prompt: 'private row', isHeldOut: true, before: 'b', after: 'c' },
      ],
    },
  }),
  async *events() {
    yield { type: 'peer-joined', peer: BOB, name: 'bob', engine: '' } as unknown as JobEvent;
    yield update(ANN, 'accepted');
    yield update(ANN, 'accepted');
    yield update(BOB, 'accepted');
    yield update(BOB, 'stale-base');
    yield { ...update(ANN, 'null-round'), type: 'update-undone' } as JobEvent;
    yield { type: 'null-round', round: 3, reason: 'too few updates', at: 3000 } as unknown as JobEvent;
  },
} as unknown as ApiClient;

test('the report of a job has its settings, losses, tasks, contributors, problems and digests', async () => {
  const report = await collectReport(api, 'moby', { now: 5000, version: '1.2.3' });
  expect(report.nodes).toEqual([
    { peer: ANN, name: EVIL, updates: 2, tokens: 2000, bytes: 4096, refused: 0, unmerged: 1 },
    { peer: BOB, name: 'bob', updates: 1, tokens: 1000, bytes: 4096, refused: 1, unmerged: 0 },
  ]);
  // An update that was only not merged is not a refused update.
  expect(report.refusals).toEqual({ 'stale-base': 1 });
  const page = jobPage(report);
  for (const part of [
    '2 of 8 checkpoints',
    '4.7500',
    '<svg',
    '5.0000',
    '−0.5000 compared with the initial adapter',
    'round 2, quiz.acc 0.5000, held-out loss 4.5000',
    'round 2: 4.5000',
    'quiz.acc',
    '0.5000',
    'stale-base: 1',
    'too few updates',
    'rounds.count 8 → 12',
    '0.0005',
    'more data',
    `--job ${DIGEST} --coordinator ${BOB}`,
    'Call me',
    '1970-01-01 00:00:05 UTC',
  ]) {
    expect(page, part).toContain(part);
  }
});

test('the report has no script, no invite, no address and no held-out row', async () => {
  const page = jobPage(await collectReport(api, 'moby', { now: 5000, version: '1.2.3' }));
  for (const part of ['<script', 'swarm1secret', '9.9.9.9', 'private row', 'src=', 'href=']) {
    expect(page, part).not.toContain(part);
  }
  expect(page).toContain("default-src 'none'");
  expect(page).toContain('&lt;script&gt;');
});
