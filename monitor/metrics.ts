/** Metrics of both daemons: `swarm_` prefix, base units, no peer ids as labels. */
export {
  type CoordinatorMetrics,
  type CoordinatorMetricsSource,
  createCoordinatorMetrics,
  type JobGauges,
} from './coordinator-metrics.ts';
export {
  createNodeMetrics,
  type NodeGauges,
  type NodeMetrics,
  type NodeMetricsSource,
} from './node-metrics.ts';
