import type { Clock } from '../common/clock.ts';
import { reduce } from './machine/node-machine.ts';
import { dueAt, type NodeEffect, type NodeEvent, type NodeState } from './machine/state.ts';

export interface MachineRunnerOptions {
  initial: NodeState;
  /** Begins an effect; what comes of it is dispatched later, or at once. */
  perform: (effect: NodeEffect) => void;
  /** After each round of events. */
  onChange: (state: NodeState, before: NodeState) => void;
}

/** Drives the state machine: events one at a time and in order, and a tick whenever it wants one. */
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
    // An effect that dispatches at once has its event taken after the effects beside it.
    if (this.#reducing) return;
    const before = this.#state;
    this.#reducing = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) this.#reduce(next);
    } finally {
      // Also where an effect has thrown: its caller hears of it, and what happens next is not lost on us.
      this.#reducing = false;
      this.#arm();
    }
    this.#options.onChange(this.#state, before);
  }

  #reduce(event: NodeEvent): void {
    const { state, effects } = reduce(this.#state, event, this.#clock.monotonic());
    this.#state = state;
    for (const effect of effects) this.#options.perform(effect);
  }

  #arm(): void {
    this.#cancelTick();
    const due = dueAt(this.#state);
    if (due === null) return;
    const wait = Math.max(0, due - this.#clock.monotonic());
    this.#cancelTick = this.#clock.after(wait, () => this.dispatch({ type: 'tick' }));
  }

  /** Takes no further event. */
  end(): void {
    this.#ended = true;
    this.#cancelTick();
  }
}
