/** The report of an evaluation: everything that its Markdown card and its HTML page show, as one object. */
import type { Comparison } from '../compare/compare.ts';
import { str } from '../python/values.ts';
import type { TaskEvaluation } from '../tasks/evaluate-tasks.ts';
import type { TaskResults } from '../tasks/results.ts';
import type { DocumentResult, Task } from '../tasks/task.ts';
import type { LossCurve } from './loss-curve.ts';
import { taskDigest } from './sample-lines.ts';

/** Names of a base and of an adapter. */
export interface ModelNames {
  readonly base: string;
  /** Name of the adapter; null for the base alone. */
  readonly adapter: string | null;
}

/** A document with the answers of the models. */
export interface ShownDocument {
  readonly task: string;
  readonly id: number;
  /** The last part of the prompt. */
  readonly prompt: string;
  readonly correct: string;
  readonly answer: string;
  /** Answer of the second model; null if only one model was evaluated. */
  readonly against: string | null;
  /**
   * Values of the task's first metric: for the text `answer` and, if two models were evaluated, for the text `against`.
   */
  readonly values: readonly (number | null)[];
}

export interface Report {
  readonly schemaVersion: 1;
  /** Time of the evaluation, in ISO 8601 format. */
  readonly date: string;
  readonly version: string;
  readonly model: ModelNames;
  readonly figures: TaskResults;
  /** Digest of each task's documents, prompts and answers. */
  readonly task_hashes: Readonly<Record<string, string>>;
  readonly against: { readonly model: ModelNames; readonly figures: TaskResults } | null;
  readonly comparison: Comparison | null;
  readonly lossCurve: LossCurve | null;
  readonly documents: readonly ShownDocument[];
}

/** Facts of a report that are not part of the evaluation's results. */
export interface ReportFacts {
  readonly date: Date;
  /** Version of this program. */
  readonly version: string;
  readonly model: ModelNames;
  /** Names of the second model, with which the first one is compared. @default null */
  readonly against?: ModelNames | null;
  /** Losses of the training run that made the adapter. @default null */
  readonly lossCurve?: LossCurve | null;
}

/** Number of documents per task that the report shows. Documents on which the two models differ come first. */
const SHOWN_DOCUMENTS = 10;
/** Maximum length of the shown part of a prompt or an answer, in characters. */
const SHOWN_CHARACTERS = 600;

export function makeReport(
  { figures, evaluated, against: others, comparison }: TaskEvaluation,
  { date, version, model, against = null, lossCurve = null }: ReportFacts,
): Report {
  return {
    schemaVersion: 1,
    date: date.toISOString(),
    version,
    model,
    figures,
    task_hashes: Object.fromEntries(evaluated.map((one) => [one.task.config.name, taskDigest(one)])),
    against: against && others && { model: against, figures: others.figures },
    comparison,
    lossCurve,
    documents: evaluated.flatMap(({ task, documents }, i) =>
      shown(task, documents, others?.evaluated[i]?.documents ?? null),
    ),
  };
}

function shown(
  { config }: Task,
  documents: readonly DocumentResult[],
  others: readonly DocumentResult[] | null,
): ShownDocument[] {
  const metric = config.metrics[0]!.name;
  const filter = config.filters[0]!.name;
  const firstValue = (result: DocumentResult | undefined): number | null => {
    const value = result?.values[metric];
    return typeof value === 'number' ? value : null;
  };
  const rows = documents.flatMap((result, i) => {
    if (result.filter !== filter) return [];
    const other = others?.[i];
    const row: ShownDocument = {
      task: config.name,
      id: result.id,
      prompt: end(
        result.requests[0]!.length > 1 || config.outputType === 'generate_until'
          ? result.requests[0]![0]
          : '',
      ),
      correct: start(correctText(result)),
      answer: start(answerText(result)),
      against: other === undefined ? null : start(answerText(other)),
      values: other === undefined ? [firstValue(result)] : [firstValue(result), firstValue(other)],
    };
    return [row];
  });
  const differs = ({ values }: ShownDocument) => values.length > 1 && values[0] !== values[1];
  return [...rows.filter(differs), ...rows.filter((row) => !differs(row))].slice(0, SHOWN_DOCUMENTS);
}

function correctText({ target, choices }: DocumentResult): string {
  return typeof target === 'number' && choices !== null ? (choices.at(target) ?? str(target)) : str(target);
}

/** Returns a model's answer: its text, its most likely choice, or the log-probability of the text it had to predict. */
function answerText({ answer, responses, choices }: DocumentResult): string {
  if (answer !== null) return answer;
  const scores = responses.map((response) =>
    typeof response === 'object' ? response.logLikelihood : Number(response),
  );
  if (choices === null) return `log-probability ${scores[0]!.toFixed(3)}`;
  const own = scores.slice(0, choices.length);
  return choices[own.indexOf(Math.max(...own))] ?? '';
}

function start(text: string): string {
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}

function end(text: string): string {
  return text.length > SHOWN_CHARACTERS ? `…${text.slice(-SHOWN_CHARACTERS)}` : text;
}
