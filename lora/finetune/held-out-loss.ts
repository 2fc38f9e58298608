import type { StoredRows } from '../data/stored-rows.ts';
import type { TrainerProcess } from '../train/process/supervisor.ts';
import type { FinetuneListener } from './listener.ts';

/** Held-out rows per request to the trainer. Progress is reported before each request. */
const ROWS_PER_CALL = 256;

export interface HeldOutDeps {
  trainer: TrainerProcess;
  data: StoredRows;
  listener: Pick<FinetuneListener, 'onMeasuring'>;
}

/** Measures the loss on held-out rows. */
export class HeldOutLoss {
  readonly #deps: HeldOutDeps;

  constructor(deps: HeldOutDeps) {
    this.#deps = deps;
  }

  /** Returns the loss of an adapter in nats per supervised token, over all rows. */
  async of(adapter: readonly Float32Array[], signal: AbortSignal): Promise<number> {
    const { trainer, data, listener } = this.#deps;
    let sum = 0;
    let tokens = 0;
    for (let start = 0; start < data.rows; start += ROWS_PER_CALL) {
      listener.onMeasuring?.(start, data.rows);
      const count = Math.min(ROWS_PER_CALL, data.rows - start);
      const rows = data.rowsAt(Array.from({ length: count }, (_, i) => start + i));
      for (const row of await trainer.evaluate({ adapter, rows, signal })) {
        sum += row.lossSum;
        tokens += row.tokens;
      }
    }
    return sum / tokens;
  }
}
