import { Registry } from '@prometheus-io/client';
import Fastify from 'fastify';
import { describe, expect, it } from 'vitest';
import { CHECK_TIMEOUT_MS, Health } from '../../../monitor/health.ts';
import { addMonitorRoutes } from '../../../monitor/monitor-routes.ts';

function manualClock() {
  let timers: { ms: number; callback: () => void }[] = [];
  return {
    now: () => 0,
    monotonic: () => 0,
    after(ms: number, callback: () => void) {
      const timer = { ms, callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((t) => t !== timer);
      };
    },
    fire: () => {
      for (const { callback } of timers.splice(0)) callback();
    },
    pending: () => timers.map((t) => t.ms),
  };
}

describe('health', () => {
  it('lists failing checks with their reasons, and includes liveness in readiness', async () => {
    const health = new Health({ clock: manualClock() });
    health.add('live', 'machine', () => null);
    const remove = health.add('ready', 'disk', () => 'only 3 MB are free; delete old checkpoints');
    health.add('ready', 'joined', async () => {
      throw new Error('no coordinator');
    });
    expect(await health.report('live')).toEqual({ ok: true, failing: [] });
    expect((await health.report('ready')).failing.map((f) => f.check)).toEqual(['disk', 'joined']);
    remove();
    expect((await health.report('ready')).failing.map((f) => f.check)).toEqual(['joined']);
    health.add('live', 'machine', () => 'stuck');
    expect((await health.report('ready')).failing.map((f) => f.check)).toEqual(['machine', 'joined']);
  });

  it('reports a check without an answer as failing, and leaves no timer after an answer', async () => {
    const clock = manualClock();
    const health = new Health({ clock });
    health.add('ready', 'hung', () => new Promise(() => {}));
    const report = health.report('ready');
    expect(clock.pending()).toEqual([CHECK_TIMEOUT_MS]);
    clock.fire();
    expect((await report).failing).toMatchObject([{ check: 'hung' }]);
    const well = new Health({ clock });
    well.add('ready', 'quick', () => null);
    await well.report('ready');
    expect(clock.pending()).toEqual([]);
  });
});

describe('monitor routes', () => {
  it('answer 200 or 503 with the report, and metrics as text', async () => {
    const server = Fastify();
    const health = new Health({ clock: manualClock() });
    addMonitorRoutes(server, { health, registry: new Registry() });
    expect((await server.inject('/readyz')).statusCode).toBe(200);
    const remove = health.add('ready', 'joined', () => 'not joined yet');
    const response = await server.inject('/readyz');
    expect(response.statusCode).toBe(503);
    expect(response.json()).toEqual({ ok: false, failing: [{ check: 'joined', reason: 'not joined yet' }] });
    expect((await server.inject('/healthz')).json()).toEqual({ ok: true, failing: [] });
    remove();
    const metrics = await server.inject('/metrics');
    expect(metrics.statusCode).toBe(200);
    expect(metrics.headers['content-type']).toContain('text/plain');
    await server.close();
  });
});
