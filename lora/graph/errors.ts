import { defineErrors, REPORT } from '../../common/errors.ts';

export const graphError = defineErrors({
  GRAPH_DTYPE: { kind: 'internal', next: REPORT },
  GRAPH_MIXED: { kind: 'internal', next: REPORT },
  GRAPH_NAME: { kind: 'internal', next: REPORT },
  GRAPH_NOT_DIFFERENTIABLE: { kind: 'internal', next: REPORT },
  GRAPH_NO_GRADIENT: { kind: 'internal', next: REPORT },
  GRAPH_SHAPE: { kind: 'internal', next: REPORT },
  GRAPH_SMOOTHING: { kind: 'internal', next: REPORT },
});
