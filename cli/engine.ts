import { join } from 'node:path';
import { Option } from 'commander';
import { ENGINE_CHOICE_LIST, ENGINE_CHOICES, type EngineChoice } from '../lora/engines/names.ts';
import type { BaseBits } from '../lora/models/base-bits.ts';
import type { ModelShape } from '../lora/models/targets.ts';
import type { ChosenEngine } from '../lora/train/choose.ts';
import { SwarmError } from '../protocol/errors.ts';
import type { Context } from './context.ts';
import { type Environment, resolveCache } from './homes.ts';

/** @param what it is for, before the names */
export function engineOption(what = ''): Option {
  return new Option('--engine <name>', `${what}${ENGINE_CHOICE_LIST} (or SWARM_ENGINE; default: auto)`);
}

/**
 * The flag, else the environment, else `auto`.
 * @throws SwarmError ENGINE_UNKNOWN
 */
export function engineChoice(said: string | undefined, environment: Environment): EngineChoice {
  const name = said ?? (environment.SWARM_ENGINE || 'auto');
  const choice = ENGINE_CHOICES.find((one) => one === name);
  if (choice !== undefined) return choice;
  throw new SwarmError('ENGINE_UNKNOWN', `no engine is called ${name}; there are ${ENGINE_CHOICE_LIST}`, {
    name,
    next: 'docs/engines.md says what each of them needs',
  });
}

/** Where choices are remembered, below a cache. */
export function choicesIn(cacheDir: string): string {
  return join(cacheDir, 'engines');
}

/** The engine for a base: the one that was asked for, for `auto` the fastest on this machine. */
export async function resolveEngine(
  { environment, cwd, clock, signal }: Pick<Context, 'environment' | 'cwd' | 'clock' | 'signal'>,
  asked: { engine: EngineChoice; model: ModelShape; threads: number; baseBits: BaseBits },
): Promise<ChosenEngine> {
  const { chooseEngine } = await import('../lora/train/choose.ts');
  const recordDir = choicesIn(resolveCache(environment, cwd));
  return chooseEngine({ ...asked, recordDir, now: clock.now(), signal });
}
