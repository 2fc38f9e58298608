/** The dashboards of the daemons. `node scripts/monitoring.ts` writes them to docs/monitoring. */
import type { Dashboard, Panel } from './dashboard.ts';

/** Returns panels that every daemon has. @param selector labels that choose the daemons, or an empty text for all */
function processPanels(selector: string): readonly Panel[] {
  return [
    {
      title: 'Connected peers',
      description: 'Peers with an open connection. 0 means that the daemon is alone.',
      kind: 'timeseries',
      unit: 'none',
      queries: [{ expr: `swarm_connections${selector}`, legend: '{{instance}}' }],
    },
    {
      title: 'Traffic',
      description: 'Bytes per second on all connections.',
      kind: 'timeseries',
      unit: 'Bps',
      queries: [
        { expr: `rate(swarm_network_bytes_total${selector}[5m])`, legend: '{{instance}} {{direction}}' },
      ],
    },
    {
      title: 'Memory',
      description: 'Resident memory of the daemon, without its trainer.',
      kind: 'timeseries',
      unit: 'bytes',
      queries: [{ expr: `swarm_process_resident_memory_bytes${selector}`, legend: '{{instance}}' }],
    },
    {
      title: 'Event-loop lag',
      description: 'How late timers run. Above 0.1 s, the daemon answers its peers too slowly.',
      kind: 'timeseries',
      unit: 's',
      queries: [{ expr: `swarm_event_loop_lag_seconds${selector}`, legend: '{{instance}} {{statistic}}' }],
    },
    {
      title: 'Refused requests and connections',
      description:
        'How often per second a peer got no place in a queue, or lost its place. Single peaks are normal.',
      kind: 'timeseries',
      unit: 'none',
      queries: [
        {
          expr: `sum by (queue, reason) (rate(swarm_network_refusals_total${selector}[5m]))`,
          legend: '{{queue}}: {{reason}}',
        },
      ],
    },
  ];
}

/**
 * Returns a panel with the number of events per hour.
 * @param metric a counter
 * @param choice label of the metric. A variable of the dashboard has the same name, and the reader chooses its value
 * @param reason label of the metric that splits the events
 */
function perHour(
  { title, description }: Pick<Panel, 'title' | 'description'>,
  { metric, choice, reason }: { metric: string; choice: string; reason: string },
): Panel {
  return {
    title,
    description,
    kind: 'timeseries',
    unit: 'none',
    queries: [
      {
        expr: `sum by (${choice}, ${reason}) (increase(${metric}{${choice}=~"$${choice}"}[1h]))`,
        legend: `{{${choice}}} {{${reason}}}`,
      },
    ],
  };
}

/** Returns a panel with the training speed. @param choice as for `perHour` */
function trainingSpeed(description: string, choice: string): Panel {
  return {
    title: 'Training speed',
    description,
    kind: 'timeseries',
    unit: 'none',
    queries: [{ expr: `swarm_tokens_per_second{${choice}=~"$${choice}"}`, legend: `{{${choice}}}` }],
  };
}

export const coordinatorDashboard: Dashboard = {
  uid: 'lora-swarm-coordinator',
  title: 'lora-swarm: jobs of a coordinator',
  choice: { label: 'job', metric: 'swarm_peers' },
  panels: [
    {
      title: 'Held-out loss',
      description: 'Loss of the newest checkpoint and loss of the initial adapter, in nats per token.',
      kind: 'timeseries',
      unit: 'none',
      queries: [
        { expr: 'swarm_held_out_loss{job=~"$job"}', legend: '{{job}}' },
        { expr: 'swarm_base_loss{job=~"$job"}', legend: '{{job}}, initial adapter' },
      ],
    },
    {
      title: 'Rounds done',
      description: 'Percentage of the planned rounds. Rounds without a checkpoint do not count.',
      kind: 'stat',
      unit: 'percentunit',
      queries: [{ expr: 'swarm_rounds_done{job=~"$job"} / swarm_rounds{job=~"$job"}', legend: '{{job}}' }],
    },
    {
      title: 'Nodes',
      description: 'Nodes that are present.',
      kind: 'timeseries',
      unit: 'none',
      queries: [{ expr: 'swarm_peers{job=~"$job"}', legend: '{{job}}' }],
    },
    trainingSpeed('Tokens per second of all nodes together, in the newest merged round.', 'job'),
    perHour(
      {
        title: 'Rounds by outcome',
        description: 'Rounds per hour. The work of a round without a checkpoint is lost.',
      },
      { metric: 'swarm_rounds_total', choice: 'job', reason: 'outcome' },
    ),
    {
      title: 'Duration of a round',
      description: 'Median and 95 % quantile over the last hour.',
      kind: 'timeseries',
      unit: 's',
      queries: ['0.5', '0.95'].map((quantile) => ({
        expr: `histogram_quantile(${quantile}, sum by (job, le) (rate(swarm_round_seconds_bucket{job=~"$job"}[1h])))`,
        legend: `{{job}} quantile ${quantile}`,
      })),
    },
    perHour(
      {
        title: 'Refused updates',
        description: 'Per hour, by reason. docs/protocol.md explains the reasons.',
      },
      { metric: 'swarm_update_refusals_total', choice: 'job', reason: 'code' },
    ),
    {
      title: 'Strikes and audits that failed',
      description: 'Per hour. Look at the nodes with "lora-swarm peers".',
      kind: 'timeseries',
      unit: 'none',
      queries: [
        {
          expr: 'sum by (job, kind) (increase(swarm_strikes_total{job=~"$job"}[1h]))',
          legend: '{{job}} {{kind}}',
        },
        {
          expr: 'increase(swarm_audits_total{job=~"$job", verdict="failed"}[1h])',
          legend: '{{job}} audits failed',
        },
      ],
    },
    perHour(
      { title: 'Lost nodes', description: 'Per hour, by reason. "silent" means that heartbeats stopped.' },
      { metric: 'swarm_peers_lost_total', choice: 'job', reason: 'reason' },
    ),
    {
      title: 'Updates in the intake',
      description:
        'Updates that are being fetched or checked. A number that stays high means a slow disk or network.',
      kind: 'timeseries',
      unit: 'none',
      queries: [{ expr: 'swarm_intake_queue_updates{job=~"$job"}', legend: '{{job}}' }],
    },
    ...processPanels(''),
  ],
};

export const nodeDashboard: Dashboard = {
  uid: 'lora-swarm-nodes',
  title: 'lora-swarm: nodes',
  choice: { label: 'instance', metric: 'swarm_trainer_steps_total' },
  panels: [
    trainingSpeed('Tokens per second of each node.', 'instance'),
    {
      title: 'Training loss',
      description: 'Loss of the newest trained round, in nats per token.',
      kind: 'timeseries',
      unit: 'none',
      queries: [{ expr: 'swarm_train_loss{instance=~"$instance"}', legend: '{{instance}}' }],
    },
    perHour(
      {
        title: 'Updates by receipt',
        description: 'Per hour. All codes but "accepted" and "late" mean that the work did not count.',
      },
      { metric: 'swarm_updates_total', choice: 'instance', reason: 'code' },
    ),
    perHour(
      {
        title: 'Lost rounds',
        description: 'Per hour: rounds for which the node has no result, by error code.',
      },
      { metric: 'swarm_rounds_lost_total', choice: 'instance', reason: 'code' },
    ),
    perHour(
      { title: 'Restarts of the trainer', description: 'Per hour, by error code.' },
      { metric: 'swarm_trainer_restarts_total', choice: 'instance', reason: 'code' },
    ),
    ...processPanels('{instance=~"$instance"}'),
  ],
};
