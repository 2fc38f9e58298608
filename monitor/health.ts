import type { Clock } from '../common/clock.ts';
import { safeText } from '../common/text.ts';

/** A check that has not answered within this time counts as failing: probes must not hang. */
export const CHECK_TIMEOUT_MS = 2_000;

/** null when all is well, else what is wrong and what to do, for people. */
export type Check = () => string | null | Promise<string | null>;

export interface HealthReport {
  ok: boolean;
  failing: { check: string; reason: string }[];
}

/**
 * What a daemon knows about its own health. Liveness checks fail when only a restart helps (a stuck state machine);
 * readiness checks fail while the daemon cannot do its work (not joined, disk full). That the report is answered at
 * all shows that the event loop turns.
 */
export class Health {
  readonly #clock: Clock;
  readonly #checks = { live: new Map<string, Check>(), ready: new Map<string, Check>() };

  constructor(_options: object, deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Adds (or replaces) a check; the returned function takes it out again. */
  add(kind: 'live' | 'ready', name: string, check: Check): () => void {
    const checks = this.#checks[kind];
    checks.set(name, check);
    return () => {
      if (checks.get(name) === check) checks.delete(name);
    };
  }

  /** Runs all checks of a kind at once; one that throws or times out is failing. Readiness includes liveness. */
  async report(kind: 'live' | 'ready'): Promise<HealthReport> {
    const checks = kind === 'ready' ? [...this.#checks.live, ...this.#checks.ready] : [...this.#checks.live];
    const results = await Promise.all(
      checks.map(async ([check, run]) => ({ check, reason: await this.#run(run) })),
    );
    const failing = results.flatMap(({ check, reason }) => (reason === null ? [] : [{ check, reason }]));
    return { ok: failing.length === 0, failing };
  }

  #run(check: Check): Promise<string | null> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(CHECK_TIMEOUT_MS, () =>
        resolve(`no answer within ${CHECK_TIMEOUT_MS / 1000} s`),
      );
      const settle = (reason: string | null): void => {
        cancel();
        resolve(reason === null ? null : safeText(reason));
      };
      Promise.resolve()
        .then(check)
        .then(settle, (error: unknown) => settle(error instanceof Error ? error.message : String(error)));
    });
  }
}
