/** Figures, standard errors, prompts and answers equal those of lm-evaluation-harness (scripts/reference/lm-eval.py). */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../../../common/package.ts';
import { nanoModel } from '../../../../common/samples.ts';
import { statisticOf } from '../../../../lora/evaluate/metrics/aggregate.ts';
import { bootstrapError } from '../../../../lora/evaluate/metrics/standard-error.ts';
import { type ModelBundle, openModel } from '../../../../lora/evaluate/model-bundle.ts';
import { sampleDigests } from '../../../../lora/evaluate/report/sample-lines.ts';
import { evaluateTasks, type TaskEvaluation } from '../../../../lora/evaluate/tasks/evaluate-tasks.ts';
import { valuesOf } from '../../../../lora/evaluate/tasks/task.ts';

interface Reference {
  file: string;
  iters?: number;
  results: Record<string, number | string>;
  version: unknown;
  shots: number;
  samples: { original: number; effective: number };
  higher_is_better: Record<string, boolean>;
  documents: {
    texts: string;
    responses: ([number, boolean] | number | string)[];
    hashes: [string, string, string];
  }[];
}

const references = JSON.parse(
  readFileSync(new URL('../../../fixtures/lm-eval/results.json', import.meta.url), 'utf8'),
) as Record<string, Reference>;

/** Maximum relative difference between the log-probabilities of both programs, which compute in float32. */
const FLOAT32 = 2e-6;

let dir: string;
let bundle: ModelBundle;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lm-eval-'));
  bundle = await openModel({ base: nanoModel(), compute: { engine: 'onnx-cpu' }, cacheDir: dir });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe.each(Object.entries(references))('%s', (name, reference) => {
  let evaluation: TaskEvaluation;
  beforeAll(async () => {
    evaluation = await evaluateTasks(bundle, { tasks: [join(packageRoot(), reference.file)] });
  });

  /**
   * Returns the value to compare with the reference. The reference computed the standard errors of some metrics from fewer
   * bootstrap samples, so this function computes these errors again with that number of samples.
   */
  async function compared(key: string, value: number | string): Promise<number | string> {
    const [metric, filter] = key.replace('_stderr', '').split(',') as [string, string];
    if (!key.includes('_stderr') || !['f1', 'mcc'].includes(metric) || reference.iters === undefined)
      return value;
    const [{ task, documents }] = evaluation.evaluated as [(typeof evaluation.evaluated)[0]];
    const { aggregation } = task.config.metrics.find((one) => one.name === metric)!;
    const statistic = statisticOf(aggregation, valuesOf(documents, metric, filter));
    return bootstrapError(statistic, documents.length, reference.iters, async () => {});
  }

  it('has the same prompts, documents and answers', () => {
    const { documents } = evaluation.evaluated[0]!;
    expect(documents).toHaveLength(reference.documents.length);
    for (const [i, result] of documents.entries()) {
      const expected = reference.documents[i]!;
      const texts = result.requests.flat().join('\0');
      expect(createHash('sha256').update(texts).digest('hex'), texts).toBe(expected.texts);
      const { doc_hash, prompt_hash, target_hash } = sampleDigests(result);
      expect([doc_hash, prompt_hash, target_hash].map((hash) => hash.slice(0, 8))).toEqual(expected.hashes);
    }
  });

  it('has the same responses of the model', () => {
    for (const [i, { responses }] of evaluation.evaluated[0]!.documents.entries()) {
      for (const [j, response] of responses.entries()) {
        const expected = reference.documents[i]!.responses[j]!;
        if (typeof response === 'string') expect(response).toBe(expected);
        else if (typeof response === 'number') expectClose(response, expected as number, FLOAT32);
        else {
          const [score, greedy] = expected as [number, boolean];
          expectClose(response.logLikelihood, score, 10 * FLOAT32);
          expect(response.isGreedy).toBe(greedy);
        }
      }
    }
  });

  it('has the same figures and standard errors', async () => {
    const { results, versions, 'n-shot': shots, 'n-samples': samples, higher_is_better } = evaluation.figures;
    expect(Object.keys(results[name]!).sort()).toEqual(Object.keys(reference.results).sort());
    for (const [key, expected] of Object.entries(reference.results)) {
      const value = await compared(key, results[name]![key]!);
      if (typeof expected === 'string') expect(value, key).toBe(expected);
      else
        expectClose(
          value as number,
          expected,
          key.includes('perplexity') || key.includes('bits') ? 1e-6 : 1e-12,
        );
    }
    expect([versions[name], shots[name], samples[name]]).toEqual([
      reference.version,
      reference.shots,
      reference.samples,
    ]);
    expect(higher_is_better[name]).toEqual(reference.higher_is_better);
  });
});

function expectClose(value: number, expected: number, tolerance: number): void {
  expect(Math.abs(value - expected), `${value}, expected ${expected}`).toBeLessThanOrEqual(
    tolerance * Math.max(1, Math.abs(expected)),
  );
}
