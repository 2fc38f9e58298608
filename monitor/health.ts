import { messageOf } from '../common/errors.ts';
import { safeText } from '../common/text.ts';
import type { Clock } from '../common/time/clock.ts';

/** A check that gives no answer within this time counts as failing, so that probes never hang. */
export const CHECK_TIMEOUT_MS = 2_000;

/** Returns null if the check passes. If it fails, returns a human-readable text: what is wrong, and what to do. */
export type Check = () => string | null | Promise<string | null>;

export interface HealthReport {
  ok: boolean;
  failing: { check: string; reason: string }[];
}

/**
 * The health checks of a daemon. A liveness check fails when only a restart helps, for example because a
 * state machine is stuck. A readiness check fails while the daemon cannot do its work, for example while its
 * disk is full. Reports are computed on the event loop, so any report also shows that the event loop is
 * running.
 */
export class Health {
  readonly #clock: Clock;
  readonly #checks = { live: new Map<string, Check>(), ready: new Map<string, Check>() };

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Adds or replaces a check. @returns a function that removes the check */
  add(kind: 'live' | 'ready', name: string, check: Check): () => void {
    const checks = this.#checks[kind];
    checks.set(name, check);
    return () => {
      if (checks.get(name) === check) checks.delete(name);
    };
  }

  /**
   * Runs all checks of a kind at once. A check that throws or times out is failing. A report of readiness includes the
   * liveness checks.
   */
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
        .then(settle, (error: unknown) => settle(messageOf(error)));
    });
  }
}
