import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import type { Coordinator } from '../coordinator.ts';
import type { JobRun } from '../job-run.ts';
import { needsOperator } from '../round/job-phase.ts';
import type { Store } from '../store/store.ts';
import { type Attempt, WebhookDelivery } from './delivery.ts';
import { newMessage, type WebhookBody } from './message.ts';
import { type News, newsOf, SOURCES, type WebhookEvent } from './news.ts';
import type { Post } from './post.ts';
import type { WebhookTarget } from './settings.ts';

/** Number of events that are read from the store at once. */
const PAGE = 256;

/** A webhook, as the control API shows it. */
export interface WebhookView {
  /** The URL without the parts that can contain secrets. */
  url: string;
  events: readonly WebhookEvent[];
  /** Number of messages that wait for their delivery. */
  queued: number;
  /** The newest attempt to deliver a message since the coordinator started; null if there was none. */
  last: Attempt | null;
}

/** Outcome of a test of a webhook. */
export interface WebhookTest {
  /** The URL without the parts that can contain secrets. */
  url: string;
  attempt: Attempt;
}

export interface WebhooksDeps {
  readonly coordinator: Pick<Coordinator, 'jobs'>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly post: Post;
  readonly version: string;
}

/**
 * Tells other programs of the operator what happens in jobs. Makes messages from the event log of a job, and stores them
 * in the database before it sends them. The database also stores the position in the log. After a crash, the next start
 * continues from this position, so no message is lost. A failure does not affect the job, because the work happens after
 * the transition of the job.
 */
export class Webhooks {
  readonly #deps: WebhooksDeps;
  readonly #deliveries: readonly WebhookDelivery[];
  #isStopped = false;

  constructor({ targets }: { targets: readonly WebhookTarget[] }, deps: WebhooksDeps) {
    this.#deps = deps;
    const { store, clock, log, post, version } = deps;
    this.#deliveries = targets.map(
      (target) => new WebhookDelivery({ target }, { queue: store.webhooks, clock, log, post, version }),
    );
  }

  /** Sends the messages that an earlier process has left. A new webhook gets no messages about the past. */
  start(): void {
    const { store, coordinator } = this.#deps;
    const targets = this.#deliveries.map(({ target }) => target.id);
    store.transaction(() => {
      store.webhooks.keepOnly(targets);
      for (const { context } of coordinator.jobs()) {
        for (const target of targets) {
          if (store.webhooks.cursor(target, context.job) !== null) continue;
          const lowest = store.rounds.lowestLoss(context.job)?.heldOutLoss ?? null;
          const sequence = store.events.newest(context.job);
          store.webhooks.setCursor(target, context.job, { sequence, lowest, isUp: false });
        }
      }
    });
    for (const run of coordinator.jobs()) this.#collect(run);
    for (const delivery of this.#deliveries) delivery.wake();
  }

  observe({ type, job }: JobEvent): void {
    if (this.#deliveries.length === 0 || !SOURCES.some((source) => source === type)) return;
    // Work in the next turn of the event loop. Listeners are called inside the transition of the job, which
    // must not wait for this work.
    setImmediate(() => {
      const run = this.#deps.coordinator.jobs().find(({ context }) => context.job === job);
      if (!this.#isStopped && run !== undefined) this.#collect(run);
    });
  }

  /** Interrupts all deliveries. Their messages stay in the database. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#deliveries.map((delivery) => delivery.stop()));
  }

  views(): WebhookView[] {
    const { store } = this.#deps;
    return this.#deliveries.map(({ target, last }) => ({
      url: target.shown,
      events: target.events,
      queued: store.webhooks.count(target.id),
      last,
    }));
  }

  /** Sends a message of type `test` to every webhook at once, without its queue. */
  async test(): Promise<WebhookTest[]> {
    return Promise.all(
      this.#deliveries.map(async (delivery) => ({
        url: delivery.target.shown,
        attempt: await delivery.attempt(
          newMessage(
            this.#body(
              { type: 'test', text: 'this is a test of lora-swarm', data: {} },
              this.#deps.clock.now(),
            ),
          ),
        ),
      })),
    );
  }

  /** Makes messages from the new events of a job, and wakes the deliveries. */
  #collect(run: JobRun): void {
    const { log } = this.#deps;
    for (const delivery of this.#deliveries) {
      try {
        while (this.#collectPage(run, delivery.target));
        delivery.wake();
      } catch (error) {
        log.error(
          { webhook: delivery.target.shown, job: run.context.stored.name, error },
          'webhook-not-queued',
        );
      }
    }
  }

  /** Makes messages from at most PAGE events. Returns whether there are more events. */
  #collectPage({ context, driver }: JobRun, target: WebhookTarget): boolean {
    const { store, clock, log } = this.#deps;
    const { job, stored } = context;
    const about = { name: stored.name, needsOperator: needsOperator(driver.state) };
    return store.transaction(() => {
      // A job without a position was created after the coordinator started, so all of its events are new.
      const cursor = store.webhooks.cursor(target.id, job) ?? { sequence: 0, lowest: null, isUp: false };
      const newest = store.events.newest(job);
      const events = store.events.after(job, cursor.sequence, PAGE, SOURCES);
      let memory: { lowest: number | null; isUp: boolean } = { lowest: cursor.lowest, isUp: cursor.isUp };
      for (const event of events) {
        const told = newsOf(event, memory, about);
        memory = told.memory;
        if (told.news === null || !target.events.includes(told.news.type)) continue;
        const { news } = told;
        const data = { job, name: stored.name, ...news.data };
        const dropped = store.webhooks.add(
          target.id,
          newMessage(this.#body({ ...news, data }, event.at)),
          clock.now(),
        );
        if (dropped > 0) log.warn({ webhook: target.shown, dropped }, 'webhook-queue-full');
      }
      const isFull = events.length === PAGE;
      const sequence = isFull ? events.at(-1)!.sequence : newest;
      store.webhooks.setCursor(target.id, job, { sequence, ...memory });
      return isFull;
    });
  }

  #body(news: Pick<News, 'text' | 'data'> & Pick<WebhookBody, 'type'>, at: number): WebhookBody {
    const { type, text, data } = news;
    return { schemaVersion: 1, type, timestamp: new Date(at).toISOString(), text, data };
  }
}
