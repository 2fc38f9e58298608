import type { PresentPeer } from '../../../../coordinator/round/plan.ts';
import { reduce } from '../../../../coordinator/round/round-machine.ts';
import {
  type Effect,
  initialState,
  type JobState,
  type MachineEvent,
  type MachineSettings,
} from '../../../../coordinator/round/state.ts';

export const SETTINGS: MachineSettings = {
  count: 3,
  localSteps: 12,
  minPeers: 2,
  quorum: 0.6,
  maxSeconds: 60,
  preset: 'auto',
  batchSize: 4,
};

/** A node that has never trained. */
export const NEW_PEER: PresentPeer = { speed: 0, shares: [], standing: 'good' };

/** A state machine and its clock, fed event by event. */
export class Machine {
  state: JobState;
  now = 1_000;
  /** Effects of the last event. */
  effects: readonly Effect[] = [];

  constructor(settings: Partial<MachineSettings> = {}, state?: JobState) {
    this.state = state ?? initialState({ ...SETTINGS, ...settings });
  }

  /** Lets time pass, then feeds the event. */
  feed(event: MachineEvent, afterMs = 0): this {
    this.now += afterMs;
    const { state, effects } = reduce(this.state, event, this.now);
    this.state = state;
    this.effects = effects;
    return this;
  }

  join(...peers: string[]): this {
    for (const peer of peers) this.feed({ type: 'peer-ready', peer, ...NEW_PEER });
    return this;
  }

  update(
    peer: string,
    { round = this.state.round, ms = this.now - (this.state.current?.openedAt ?? 0), speed = 100 } = {},
  ): this {
    return this.feed({ type: 'update', peer, round, ms, speed });
  }

  tick(afterMs: number): this {
    return this.feed({ type: 'tick' }, afterMs);
  }

  /** Returns a machine in a round in which these peers train. */
  static training(
    peers: readonly string[] = ['a', 'b', 'c'],
    settings: Partial<MachineSettings> = {},
  ): Machine {
    return new Machine(settings).join(...peers).tick(2_000);
  }

  /** Returns a machine that merges a round, after each peer has delivered an update. */
  static validating(peers: readonly string[] = ['a', 'b'], settings: Partial<MachineSettings> = {}): Machine {
    const machine = Machine.training(peers, settings);
    machine.now += 1_000;
    for (const peer of peers) machine.update(peer);
    return machine;
  }

  get types(): string[] {
    return this.effects.map(({ type }) => type);
  }
}
