/** Compares answers of another machine with the answers of a model on this machine, for a few documents. */
import type { LanguageModel } from '../model/language-model.ts';
import type { Response, Task } from '../tasks/task.ts';
import { type Answers, answeredModel } from './answers.ts';

/** Comparison of the answers about some documents. */
export interface SpotCheck {
  /** Number of documents whose answers were compared. */
  readonly documents: number;
  /** Largest |a − b| / (1 + |a|) of all compared answers, where a and b are the two machines' log-probabilities. */
  readonly difference: number;
  /**
   * Number of documents with different answers: the two machines generated different texts, or only on one of them is
   * every token of a continuation the most likely token.
   */
  readonly otherChoices: number;
}

type AskedTask = Pick<Task, 'ask' | 'documents'>;

/**
 * Asks a model about randomly chosen documents, and compares its answers with the answers of another machine.
 * @param draws random numbers, uniform in [0, 1). Each number chooses a different document
 * @throws SwarmError TASK_ANSWERS, ENGINE_*; the signal's reason
 */
export async function spotCheck(
  tasks: readonly AskedTask[],
  answers: Answers,
  model: LanguageModel,
  { draws, signal }: { draws: readonly number[]; signal: AbortSignal },
): Promise<SpotCheck> {
  const sent = answeredModel(answers);
  const chosen = choose(
    tasks.reduce((sum, { documents }) => sum + documents, 0),
    draws,
  );
  let difference = 0;
  let otherChoices = 0;
  let first = 0;
  for (const task of tasks) {
    const all = await task.ask(sent);
    const end = first + task.documents;
    const documents = chosen.filter((one) => one >= first && one < end).map((one) => one - first);
    first = end;
    if (documents.length === 0) continue;
    const own = await task.ask(model, { documents, signal });
    for (const [i, document] of documents.entries()) {
      const pairs = own[i]!.map((response, j) => compare(response, all[document]![j]!));
      difference = Math.max(difference, ...pairs.map((pair) => pair.difference));
      if (pairs.some((pair) => pair.isOtherChoice)) otherChoices++;
    }
  }
  return { documents: chosen.length, difference, otherChoices };
}

/** Chooses different numbers from 0 to `count` − 1, each set with the same probability (Floyd's algorithm). */
function choose(count: number, draws: readonly number[]): number[] {
  const chosen = new Set<number>();
  const most = Math.min(count, draws.length);
  for (let i = 0; i < most; i++) {
    const last = count - most + i;
    const drawn = Math.floor(draws[i]! * (last + 1));
    chosen.add(chosen.has(drawn) ? last : drawn);
  }
  return [...chosen].sort((a, b) => a - b);
}

/** Compares two answers of one type. */
function compare(own: Response, sent: Response): { difference: number; isOtherChoice: boolean } {
  if (typeof own === 'string') return { difference: 0, isOtherChoice: own !== sent };
  const [a, b] = [own, sent].map((one) => (typeof one === 'object' ? one.logLikelihood : Number(one)));
  const isOtherChoice = typeof own === 'object' && typeof sent === 'object' && own.isGreedy !== sent.isGreedy;
  return { difference: Math.abs(a! - b!) / (1 + Math.abs(a!)), isOtherChoice };
}
