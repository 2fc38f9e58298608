import type { Hold } from '../../protocol/api/node.ts';
import { HeadGossip } from '../contact/head-gossip.ts';
import { type HeartbeatLoop, startHeartbeat } from '../contact/heartbeat.ts';
import { reportedState } from '../machine/reported-state.ts';
import type { NodeState } from '../machine/state.ts';
import { openedRound } from '../machine/work.ts';
import type { JobWorker } from './job-worker.ts';
import type { MachineRunner } from './machine-runner.ts';
import type { Tasks } from './tasks.ts';

interface JobContactDeps {
  readonly worker: JobWorker;
  readonly runner: MachineRunner;
  readonly tasks: Tasks;
  /** Returns why the node takes no work; null if it takes work. */
  readonly hold: () => Hold | null;
  /** Asks the coordinator for the newest keys and head of the job. */
  readonly renewKeys: () => Promise<void>;
}

/** A node's contact with the coordinator of a job over gossip: it receives heads and sends heartbeats. */
export class JobContact {
  readonly #heads: HeadGossip;
  readonly heartbeat: HeartbeatLoop;

  constructor({ worker, runner, tasks, hold, renewKeys }: JobContactDeps) {
    const { context } = worker;
    const { job, options, deps, keys } = context;
    const { name, agent } = options;
    const state = (): NodeState => runner.state;
    this.#heads = new HeadGossip({
      context,
      newest: () => state().head,
      onHead: (head) =>
        tasks.run('head', async () => {
          await context.headSettings.check(head, tasks.life);
          runner.dispatch({ type: 'head', head });
        }),
      renewKeys,
      tasks,
    });
    this.heartbeat = startHeartbeat(deps, keys, () => {
      const { phase, head } = state();
      const reported = reportedState(phase, deps.trainer.busyWith);
      const held = hold();
      return {
        job,
        name,
        agent,
        state: reported,
        round: openedRound(head),
        ...worker.progress,
        ...(held && { hold: held }),
        ...(head && { known: { term: head.term, sequence: head.sequence } }),
      };
    });
  }

  stop(): void {
    this.#heads.stop();
    this.heartbeat.stop();
  }
}
