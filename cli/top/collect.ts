import type { ApiClient, CoordinatorStatus, JobEvent, NodeStatus } from '../../index.ts';
import type { Role } from '../../storage/daemon-home.ts';
import { jobsOf } from '../node-screen/lines.ts';
import { JobPace } from '../node-screen/pace.ts';
import { EventLines } from '../views/events.ts';
import { busiestFirst, type Choice, type CoordinatorFacts, type NodeFacts, shownJob } from './state.ts';

/** Types of events from which the loss curve and the table of rounds are made. */
const HISTORY = ['checkpoint', 'null-round', 'rolled-back'];
/** Minimum number of newest events that each list keeps. The loss curve on the screen shows far fewer points. */
const KEPT = 2_000;
/** Number of events in the first request for the list of events. Later requests load only new events. */
const FIRST_EVENTS = 500;

/** Collects the facts for frames from the control API of a daemon. */
export class Collector {
  readonly #now: () => number;
  readonly #homeFlag: string;
  readonly #paces: JobPace[] = [];
  #job: JobMemory | null = null;

  /** @param options.homeFlag the result of `homeFlag` (see views/thanks.ts) for the home of the daemon */
  constructor({ now, homeFlag }: { now: () => number; homeFlag: string }) {
    this.#now = now;
    this.#homeFlag = homeFlag;
  }

  /** @throws the errors of ApiClient */
  async collect(api: ApiClient, role: Role, choice: Choice): Promise<CoordinatorFacts | NodeFacts> {
    return role === 'node' ? this.#node(await api.status<NodeStatus>()) : this.#coordinator(api, choice);
  }

  #node(status: NodeStatus): NodeFacts {
    const now = this.#now();
    const timeLeft = jobsOf(status).map((job, i) => {
      this.#paces[i] ??= new JobPace();
      return this.#paces[i].next(job, now);
    });
    return { role: 'node', status, timeLeft, homeFlag: this.#homeFlag };
  }

  async #coordinator(api: ApiClient, choice: Choice): Promise<CoordinatorFacts> {
    const [answer, peers] = await Promise.all([api.status<CoordinatorStatus>(), api.peers()]);
    const status = { ...answer, jobs: busiestFirst(answer.jobs) };
    const chosen = shownJob(status.jobs, choice);
    if (chosen === undefined)
      return { role: 'coordinator', status, peers, job: null, history: [], events: [] };
    if (this.#job?.job !== chosen.job) this.#job = new JobMemory(chosen.job, chosen.baseLoss);
    const memory = this.#job;
    const [job] = await Promise.all([api.job(chosen.job), memory.update(api)]);
    return { role: 'coordinator', status, peers, job, history: memory.history, events: memory.events };
  }
}

/** The events of the chosen job that have been loaded so far. */
class JobMemory {
  readonly job: string;
  history: JobEvent[] = [];
  events: { at: number; text: string }[] = [];
  readonly #lines: EventLines;
  #newestHistory = 0;
  #newestEvent = 0;

  constructor(job: string, baseLoss: number | null) {
    this.job = job;
    this.#lines = new EventLines({ baseLoss });
  }

  /** Loads the events since the previous call. */
  async update(api: ApiClient): Promise<void> {
    for await (const event of api.events(this.job, {
      after: this.#newestHistory,
      types: HISTORY,
      follow: false,
    })) {
      this.#newestHistory = event.sequence;
      this.history.push(event);
      if (this.history.length > 2 * KEPT) this.history = this.history.slice(-KEPT);
    }
    const last = this.#newestEvent === 0 ? { last: FIRST_EVENTS } : {};
    for await (const event of api.events(this.job, { after: this.#newestEvent, ...last, follow: false })) {
      this.#newestEvent = event.sequence;
      const text = this.#lines.line(event);
      if (text !== null) this.events.push({ at: event.at, text });
      if (this.events.length > 2 * KEPT) this.events = this.events.slice(-KEPT);
    }
  }
}
