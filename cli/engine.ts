import { join } from 'node:path';
import { Option } from 'commander';
import { engineError } from '../lora/engines/errors.ts';
import {
  type Device,
  ENGINE_CHOICE_LIST,
  ENGINE_NAMES,
  type EngineChoice,
  type EngineName,
} from '../lora/engines/names.ts';
import type { Precision } from '../lora/engines/precision.ts';
import type { BaseBits } from '../lora/models/base-bits.ts';
import type { ModelShape } from '../lora/models/targets.ts';
import type { ChosenEngine } from '../lora/train/choose.ts';
import type { Context } from './context.ts';
import { usageError } from './errors.ts';
import { type Environment, resolveCache } from './homes.ts';
import { ProgressLine } from './print.ts';

/** @param what it is for, before the names */
export function engineOption(what = ''): Option {
  return new Option(
    '--engine <name>',
    `${what}${ENGINE_CHOICE_LIST} (or SWARM_ENGINE; default: auto, the fastest that runs)`,
  );
}

/** The same where several devices may train together. */
export function enginesOption(): Option {
  const description = `${ENGINE_CHOICE_LIST}; or several that share each batch: onnx-cuda:0,onnx-cuda:1`;
  return new Option(
    '--engine <names>',
    `${description} (or SWARM_ENGINE; default: auto, the fastest that runs)`,
  );
}

/** What was asked for to train with. */
export interface AskedEngines {
  readonly engine: EngineChoice;
  readonly device?: number;
  /** Devices that take part of each batch. */
  readonly alongside: readonly Device[];
}

/**
 * The flag, else the environment, else `auto`: one name, or several devices with commas between them.
 * @throws SwarmError ENGINE_UNKNOWN, USAGE for a number where there are none
 */
export function engineChoices(said: string | undefined, environment: Environment): AskedEngines {
  const names = said ?? (environment.SWARM_ENGINE || 'auto');
  if (names === 'auto') return { engine: 'auto', alongside: [] };
  const origin = said === undefined ? ', as SWARM_ENGINE says' : '';
  const [first, ...alongside] = names.split(',').map((name) => parseDevice(name, origin));
  return { ...first!, alongside };
}

/** Whether a text names what engineChoices takes. */
export function areEngines(text: string): boolean {
  try {
    engineChoices(text, {});
    return true;
  } catch {
    return false;
  }
}

/** As engineChoices, where one engine does the work. @throws SwarmError ENGINE_UNKNOWN, USAGE */
export function engineChoice(said: string | undefined, environment: Environment): EngineChoice {
  const { engine, device, alongside } = engineChoices(said, environment);
  if (alongside.length === 0 && device === undefined) return engine;
  throw usageError(
    `this command computes on one device, not on ${said ?? `${environment.SWARM_ENGINE}, as SWARM_ENGINE says`}`,
    'name one engine in --engine, without a number',
  );
}

function parseDevice(text: string, origin: string): Device {
  const [name, number, ...more] = text.split(':');
  const engine = ENGINE_NAMES.find((one) => one === name);
  const wellFormed = more.length === 0 && (number === undefined || /^\d{1,3}$/.test(number));
  if (engine === undefined || !wellFormed) {
    const message =
      text === 'auto'
        ? 'auto is one engine of its own choice, and shares no batch with others'
        : `no engine is called "${text}"${origin}; take ${ENGINE_CHOICE_LIST}`;
    const next = text === 'auto' ? 'name each of them, or auto alone' : nextFor(text);
    throw engineError('ENGINE_UNKNOWN', message, { name: text }, { next });
  }
  if (number === undefined) return { engine };
  if (engine === 'onnx-cuda') return { engine, device: Number(number) };
  throw usageError(
    `"${text}"${origin}: only devices of onnx-cuda are numbered`,
    `leave out the number: ${engine} takes the one that there is`,
  );
}

/** What was meant, where a part of a name tells; and who knows which of them run. */
function nextFor(text: string): string {
  const [name] = text.toLowerCase().split(':') as [string];
  const like = name === '' ? [] : ENGINE_NAMES.filter((one) => one.includes(name));
  const meant = like.length === 1 ? `did you mean ${like[0]}? ` : '';
  return `${meant}"swarm doctor" shows which of them run on this machine`;
}

/** Where choices are remembered, below a cache. */
export function choicesIn(cacheDir: string): string {
  return join(cacheDir, 'engines');
}

/** The engine for a base: the one that was asked for, for `auto` the fastest on this machine. */
export async function resolveEngine(
  context: Pick<Context, 'environment' | 'cwd' | 'clock' | 'signal' | 'stderr'>,
  asked: {
    engine: EngineChoice;
    model: ModelShape;
    threads: number;
    baseBits: BaseBits;
    precision: Precision;
  },
): Promise<ChosenEngine> {
  const { environment, cwd, clock, signal } = context;
  const { chooseEngine } = await import('../lora/train/choose.ts');
  const recordDir = choicesIn(resolveCache(environment, cwd));
  const progress = new ProgressLine(context);
  const onProbe = (engine: EngineName) => progress.update(measuringLine(engine));
  return chooseEngine({ ...asked, recordDir, now: clock.now(), signal, onProbe }).finally(() =>
    progress.clear(),
  );
}

/** What is done while an engine is measured. */
export function measuringLine(engine: EngineName): string {
  return `measuring ${engine}, a second or two`;
}
