import type { Clock } from '../../common/time/clock.ts';
import { reduce } from '../machine/node-machine.ts';
import { dueAt, type NodeEffect, type NodeEvent, type NodeState } from '../machine/state.ts';

export interface MachineRunnerOptions {
  initial: NodeState;
  /** Starts an effect. The effect may dispatch events during this call, or later. */
  perform: (effect: NodeEffect) => void;
  /** Called after the state machine has processed all queued events. */
  onChange: (state: NodeState, before: NodeState) => void;
}

/**
 * Runs the state machine of a node. Passes events to it one at a time, in order, and a `tick` at the time of
 * its next deadline.
 */
export class MachineRunner {
  readonly #options: MachineRunnerOptions;
  readonly #clock: Clock;
  readonly #events: NodeEvent[] = [];
  #state: NodeState;
  #reducing = false;
  #ended = false;
  #cancelTick = (): void => {};

  constructor(options: MachineRunnerOptions, deps: { clock: Clock }) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#state = options.initial;
  }

  get state(): NodeState {
    return this.#state;
  }

  dispatch(event: NodeEvent): void {
    if (this.#ended) return;
    this.#events.push(event);
    // An event that an effect dispatches is processed after all effects of the current event have started.
    if (this.#reducing) return;
    const before = this.#state;
    this.#reducing = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) this.#reduce(next);
    } finally {
      // If an effect throws, the caller gets the error. The state machine still accepts events and gets its next tick.
      this.#reducing = false;
      this.#scheduleTick();
    }
    this.#options.onChange(this.#state, before);
  }

  #reduce(event: NodeEvent): void {
    const { state, effects } = reduce(this.#state, event, this.#clock.monotonic());
    this.#state = state;
    for (const effect of effects) this.#options.perform(effect);
  }

  #scheduleTick(): void {
    this.#cancelTick();
    const due = dueAt(this.#state);
    if (due === null) return;
    const wait = Math.max(0, due - this.#clock.monotonic());
    this.#cancelTick = this.#clock.after(wait, () => this.dispatch({ type: 'tick' }));
  }

  /** Ignores all further events. */
  end(): void {
    this.#ended = true;
    this.#cancelTick();
  }
}
