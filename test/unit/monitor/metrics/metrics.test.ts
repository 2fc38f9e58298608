import { afterEach, describe, expect, it } from 'vitest';
import { createCoordinatorMetrics } from '../../../../monitor/metrics/coordinator-metrics.ts';
import { createNodeMetrics, type JobGauges } from '../../../../monitor/metrics/node-metrics.ts';
import type { JobEvent } from '../../../../protocol/api/job-events.ts';

const PEER = `12D3KooW${'a'.repeat(44)}`;
const NODE = {
  state: 'joining',
  round: 1,
  step: 2,
  steps: 3,
  tokensPerSecond: 4,
  trainerQueue: 1,
  jobs: [],
};
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function coordinator() {
  const traffic = { sent: 100, received: 50 };
  const job = {
    name: 'whale',
    phase: 'training',
    round: 3,
    rounds: 8,
    roundsDone: 1,
    peers: 3,
    baseLoss: 4.5,
    heldOutLoss: null,
    tokensPerSecond: 900,
    tasks: { newest: { value: 0.75 } },
  };
  const metrics = createCoordinatorMetrics({
    version: '0.1.0',
    traffic: () => traffic,
    jobs: () => [job],
    connections: () => 3,
    intakeQueues: () => [{ name: 'whale', updates: 2 }],
  });
  stops.push(metrics.stop);
  return { metrics, traffic, job };
}

const event = (body: object): JobEvent => ({ sequence: 1, at: 0, job: 'x', ...body }) as JobEvent;

async function value(registry: { metrics(): Promise<string> }, line: string): Promise<string | undefined> {
  return (await registry.metrics())
    .split('\n')
    .find((l) => l.startsWith(`${line} `))
    ?.split(' ')[1];
}

describe('coordinator metrics', () => {
  it('counts updates by code, bytes, rounds and tokens from the event log', async () => {
    const { metrics } = coordinator();
    const update = { type: 'update', round: 1, peer: PEER, detail: '', tokens: 10, seconds: 1 };
    metrics.observe(event({ ...update, code: 'accepted', bytes: 400 }), 'whale');
    metrics.observe(event({ ...update, code: 'accepted', bytes: 600 }), 'whale');
    metrics.observe(event({ ...update, code: 'malformed', bytes: 0 }), 'whale');
    metrics.observe(event({ type: 'round-closed', round: 1, cause: 'complete' }), 'whale');
    metrics.observe(event({ type: 'checkpoint', round: 1, tokens: 5000, seconds: 4 }), 'whale');
    metrics.observe(event({ type: 'rolled-back', round: 2, to: 1 }), 'whale');
    const { registry } = metrics;
    expect(await value(registry, 'swarm_rounds_total{job="whale",outcome="rolled-back"}')).toBe('1');
    expect(await value(registry, 'swarm_updates_total{job="whale",code="accepted"}')).toBe('2');
    expect(await value(registry, 'swarm_updates_total{job="whale",code="malformed"}')).toBe('1');
    expect(await value(registry, 'swarm_update_bytes_total{job="whale"}')).toBe('1000');
    expect(await value(registry, 'swarm_tokens_total{job="whale"}')).toBe('5000');
    expect(await value(registry, 'swarm_round_seconds_count{job="whale"}')).toBe('1');
    expect(await value(registry, 'swarm_rounds_closed_total{job="whale",cause="complete"}')).toBe('1');
  });

  it('counts strikes and what follows from them', async () => {
    const { metrics } = coordinator();
    const { registry } = metrics;
    const peer = { peer: PEER, round: 1 };
    for (const kind of ['harmful', 'harmful', 'audit']) {
      metrics.observe(event({ type: 'struck', ...peer, kind, standing: 'good' }), 'whale');
    }
    metrics.observe(event({ type: 'suspended', ...peer, until: 5, suspensions: 1 }), 'whale');
    metrics.observe(event({ type: 'banned', ...peer, cause: 'proof', reason: '', until: null }), 'whale');
    metrics.observe(event({ type: 'shared-fault', round: 1, faulty: 3, updates: 4 }), 'whale');
    expect(await value(registry, 'swarm_strikes_total{job="whale",kind="harmful"}')).toBe('2');
    expect(await value(registry, 'swarm_sanctions_total{job="whale",what="suspended"}')).toBe('1');
    expect(await value(registry, 'swarm_sanctions_total{job="whale",what="banned"}')).toBe('1');
    expect(await value(registry, 'swarm_shared_faults_total{job="whale"}')).toBe('1');
  });

  it('measures merges, gates, refusals and the intake queue', async () => {
    const { metrics } = coordinator();
    const { meter, registry } = metrics;
    meter.merge('whale', { seconds: 0.2, bytes: 1000 });
    meter.merge('whale', { seconds: 0.2, bytes: 800 });
    meter.gate('whale', { seconds: 3, verdict: 'removed', merged: 4, leftOut: 1, outliers: 2 });
    meter.refusal('whale', 'wrong-round');
    meter.scoring('whale', { seconds: 2, scored: 5, unscored: 1, harmful: 3, disbelieved: 2 });
    expect(await value(registry, 'swarm_scoring_seconds_sum{job="whale"}')).toBe('2');
    expect(await value(registry, 'swarm_scores_total{job="whale",outcome="scored"}')).toBe('5');
    expect(await value(registry, 'swarm_scores_total{job="whale",outcome="harmful"}')).toBe('3');
    expect(await value(registry, 'swarm_disbelieved_updates_total{job="whale"}')).toBe('2');
    expect(await value(registry, 'swarm_merge_seconds_count{job="whale"}')).toBe('2');
    expect(await value(registry, 'swarm_merge_bytes_total{job="whale"}')).toBe('1800');
    expect(await value(registry, 'swarm_gate_seconds_sum{job="whale"}')).toBe('3');
    expect(await value(registry, 'swarm_gate_verdicts_total{job="whale",verdict="removed"}')).toBe('1');
    const updates = (outcome: string) =>
      value(registry, `swarm_merge_updates_total{job="whale",outcome="${outcome}"}`);
    expect([await updates('merged'), await updates('left-out'), await updates('outlier')]).toEqual([
      '4',
      '1',
      '2',
    ]);
    expect(await value(registry, 'swarm_update_refusals_total{job="whale",code="wrong-round"}')).toBe('1');
    expect(await value(registry, 'swarm_intake_queue_updates{job="whale"}')).toBe('2');
  });

  it('reads gauges at each scrape: round, phase, known losses', async () => {
    const { metrics, job } = coordinator();
    expect(await value(metrics.registry, 'swarm_round{job="whale"}')).toBe('3');
    expect(await value(metrics.registry, 'swarm_rounds_done{job="whale"}')).toBe('1');
    expect(await value(metrics.registry, 'swarm_base_loss{job="whale"}')).toBe('4.5');
    expect(await value(metrics.registry, 'swarm_held_out_loss{job="whale"}')).toBeUndefined();
    expect(await value(metrics.registry, 'swarm_task_value{job="whale"}')).toBe('0.75');
    job.phase = 'validating';
    const phase = (p: string) => value(metrics.registry, `swarm_job_phase{job="whale",phase="${p}"}`);
    expect([await phase('validating'), await phase('training')]).toEqual(['1', '0']);
  });

  it('turns traffic totals into counters that never decrease', async () => {
    const { metrics, traffic } = coordinator();
    const sent = () => value(metrics.registry, 'swarm_network_bytes_total{direction="sent"}');
    expect(await sent()).toBe('100');
    traffic.sent = 250;
    expect(await sent()).toBe('250');
    traffic.sent = 10;
    expect(await sent()).toBe('250');
  });

  it('prefixes every metric and labels none with a peer id', async () => {
    const { metrics } = coordinator();
    const update = { type: 'update', round: 1, peer: PEER, detail: PEER, tokens: 1, seconds: 1, bytes: 1 };
    metrics.observe(event({ ...update, code: 'late' }), 'whale');
    const node = createNodeMetrics({
      version: '0.1.0',
      traffic: () => ({ sent: 0, received: 0 }),
      node: () => ({ ...NODE, state: 'training' }),
      connections: () => 1,
    });
    stops.push(node.stop);
    for (const registry of [metrics.registry, node.registry]) {
      const text = await registry.metrics();
      expect(text).not.toContain(PEER);
      for (const line of text.split('\n')) {
        if (line !== '' && !line.startsWith('#'))
          expect(line, line).toMatch(/^swarm_[a-z_]+(\{[^}]*\})? \S+$/);
      }
    }
  });
});

describe('node metrics', () => {
  it('have the state and the share of the trainer of each job', async () => {
    const jobs = ['training', 'busy'].map((state, i) => ({
      job: { job: `${i}`.repeat(64) },
      state,
      round: 7,
      trainerSeconds: 10 * i,
    }));
    const joining = { job: null, state: 'joining', round: 0, trainerSeconds: 0 };
    let shown: readonly JobGauges[] = [...jobs, joining];
    const node = createNodeMetrics({
      version: '0.1.0',
      traffic: () => ({ sent: 0, received: 0 }),
      node: () => ({ ...NODE, jobs: shown }),
      connections: () => 1,
    });
    stops.push(node.stop);
    const states = async () =>
      (await node.registry.metrics()).split('\n').filter((line) => line.startsWith('swarm_job_state'));
    expect(await states()).toEqual([
      'swarm_job_state{job="000000000000",state="training"} 1',
      'swarm_job_state{job="111111111111",state="busy"} 1',
    ]);
    expect(await value(node.registry, 'swarm_job_trainer_seconds{job="111111111111"}')).toBe('10');
    shown = [{ ...jobs[0]!, state: 'awaiting' }];
    expect(await states()).toEqual(['swarm_job_state{job="000000000000",state="awaiting"} 1']);
  });

  it('counts receipts, tokens and trainer restarts', async () => {
    const node = createNodeMetrics({
      version: '0.1.0',
      traffic: () => ({ sent: 0, received: 0 }),
      node: () => ({ ...NODE, state: 'training', round: 2, step: 5, steps: 20, tokensPerSecond: 1200 }),
      connections: () => 1,
    });
    stops.push(node.stop);
    node.receiptArrived('accepted');
    node.roundTrained({ tokens: 100, seconds: 2, lossLast: 3.5, updateBytes: 900 });
    node.trainerRestarted('TRAINER_DIED');
    node.roundLost('TRAINER_DIED');
    node.stepMade();
    expect(await value(node.registry, 'swarm_updates_total{code="accepted"}')).toBe('1');
    expect(await value(node.registry, 'swarm_tokens_total')).toBe('100');
    expect(await value(node.registry, 'swarm_update_bytes_total')).toBe('900');
    expect(await value(node.registry, 'swarm_trainer_restarts_total{code="TRAINER_DIED"}')).toBe('1');
    expect(await value(node.registry, 'swarm_rounds_lost_total{code="TRAINER_DIED"}')).toBe('1');
    expect(await value(node.registry, 'swarm_trainer_steps_total')).toBe('1');
    expect(await value(node.registry, 'swarm_trainer_queue')).toBe('1');
    expect(await value(node.registry, 'swarm_node_state{state="training"}')).toBe('1');
    expect(await value(node.registry, 'swarm_train_loss')).toBe('3.5');
  });
});
