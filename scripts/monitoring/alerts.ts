/** Alert rules of Prometheus for coordinators and nodes. */
export interface Alert {
  readonly alert: string;
  readonly expr: string;
  /** Time for which the expression must hold before the alert fires. */
  readonly for: string;
  readonly labels: { readonly severity: 'warning' | 'critical' };
  readonly annotations: { readonly summary: string; readonly description: string };
}

export const ALERTS: readonly Alert[] = [
  {
    alert: 'SwarmJobPaused',
    expr: 'swarm_job_phase{phase="paused"} == 1',
    for: '5m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'Job {{ $labels.job }} is paused',
      description:
        'See the reason with "lora-swarm status", and continue with "lora-swarm job resume {{ $labels.job }}".',
    },
  },
  {
    alert: 'SwarmRoundsWithoutCheckpoint',
    expr: 'increase(swarm_rounds_total{outcome="null"}[1h]) >= 3',
    for: '0m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'Rounds of job {{ $labels.job }} end without a checkpoint',
      description:
        'At least three rounds of the last hour ended as null rounds. See the reasons in the events of the page ("lora-swarm open").',
    },
  },
  {
    alert: 'SwarmMergeStuck',
    expr: 'swarm_job_phase{phase=~"validating|committing"} == 1',
    for: '15m',
    labels: { severity: 'critical' },
    annotations: {
      summary: 'Job {{ $labels.job }} has been {{ $labels.phase }} for 15 minutes',
      description:
        'The coordinator scores, merges or evaluates the closed round. Read its log with "lora-swarm logs" on its machine. With a large base or much held-out data, raise the time of this rule.',
    },
  },
  {
    alert: 'SwarmLossRising',
    expr: 'swarm_held_out_loss > 1.02 * min_over_time(swarm_held_out_loss[1d])',
    for: '30m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'The held-out loss of job {{ $labels.job }} is more than 2 % above its best',
      description: 'Consider "lora-swarm job rollback {{ $labels.job }} --to best" or a lower learning rate.',
    },
  },
  {
    alert: 'SwarmJobWithoutNodes',
    expr: 'swarm_peers == 0 and on (instance, job) swarm_job_phase{phase="waiting"} == 1',
    for: '15m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'Job {{ $labels.job }} has no nodes',
      description:
        'Check that the coordinator can be reached from other networks with the addresses in the invite.',
    },
  },
  {
    alert: 'SwarmPeersStruck',
    expr: 'increase(swarm_strikes_total[1h]) > 0',
    for: '0m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'Nodes of job {{ $labels.job }} got strikes ({{ $labels.kind }})',
      description: 'See the evidence with "lora-swarm peers --why NAME".',
    },
  },
  {
    alert: 'SwarmEventLoopLag',
    expr: 'swarm_event_loop_lag_seconds{statistic="p99"} > 0.5',
    for: '5m',
    labels: { severity: 'warning' },
    annotations: {
      summary: '{{ $labels.instance }} answers its peers late',
      description: 'Timers run more than 0.5 s late. Another program probably uses the processor.',
    },
  },
  {
    alert: 'SwarmTrainerRestarts',
    expr: 'increase(swarm_trainer_restarts_total[30m]) >= 3',
    for: '0m',
    labels: { severity: 'warning' },
    annotations: {
      summary: 'The trainer of {{ $labels.instance }} restarts again and again ({{ $labels.code }})',
      description: 'Read the log of the node, and run "lora-swarm doctor" on its machine.',
    },
  },
  {
    alert: 'SwarmDaemonDown',
    expr: 'up{job=~"lora-swarm.*"} == 0',
    for: '2m',
    labels: { severity: 'critical' },
    annotations: {
      summary: 'Prometheus cannot reach {{ $labels.instance }}',
      description: 'Start the daemon again. Work that it saved continues.',
    },
  },
];
