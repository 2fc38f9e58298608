import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../../lora/data/random.ts';
import { generate, sample } from '../../../lora/evaluate/generate.ts';
import type { Subject } from '../../../lora/evaluate/subject.ts';
import { tinyDeps } from '../../utils/tiny-trainer.ts';

let dir: string;
let subject: Subject;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'generate-'));
  subject = { ...(await tinyDeps(dir)), adapter: null };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('generating text', () => {
  it('takes the likeliest token each time when the temperature is 0', async () => {
    const once = await generate({ prompt: 'it was', maxTokens: 12 }, subject);
    const again = await generate({ prompt: 'it was', maxTokens: 12, seed: 9 }, subject);
    expect(again).toEqual(once);
    expect(once.ids.length).toBeGreaterThan(0);
    // The first token does not depend on how many follow: no position sees what comes after it.
    const short = await generate({ prompt: 'it was', maxTokens: 1 }, subject);
    expect(short.ids).toEqual(once.ids.slice(0, 1));
  });

  it('repeats itself for equal seeds only', async () => {
    const draw = (seed: number) =>
      generate({ prompt: 'it was', maxTokens: 20, temperature: 1, seed }, subject);
    const [first, same, other] = [await draw(1), await draw(1), await draw(2)];
    expect(same).toEqual(first);
    expect(other.ids).not.toEqual(first.ids);
  });

  it('goes on past the context, and tells the text piece by piece', async () => {
    let told = '';
    const long = await generate(
      {
        prompt: '',
        maxTokens: 2 * subject.model.config.maxPositions,
        temperature: 1,
        seed: 3,
        onText: (piece) => {
          told += piece;
        },
      },
      subject,
    );
    if (long.reason === 'length') expect(long.ids.length).toBe(2 * subject.model.config.maxPositions);
    expect(told).toBe(long.text);
  });

  it('stops when told to', async () => {
    const aborted = generate({ prompt: '', maxTokens: 5, signal: AbortSignal.abort() }, subject);
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('sampling', () => {
  const logits = Float32Array.from([0.5, 0.25, 0.2, 0.05], Math.log);
  const frequencies = (temperature: number, topP: number) => {
    const random = new Random(1);
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 20_000; i++) counts[sample(logits, { temperature, topP }, random)]! += 1 / 20_000;
    return counts;
  };

  it('draws by the probabilities', () => {
    const found = frequencies(1, 1);
    [0.5, 0.25, 0.2, 0.05].forEach((p, i) => {
      expect(found[i]).toBeCloseTo(p, 1);
    });
    // Halving the temperature squares them.
    const squares = [0.25, 0.0625, 0.04, 0.0025];
    const sum = squares.reduce((a, b) => a + b);
    frequencies(0.5, 1).forEach((p, i) => {
      expect(p).toBeCloseTo(squares[i]! / sum, 1);
    });
  });

  it('keeps to the nucleus', () => {
    expect(frequencies(1, 0.6).slice(2)).toEqual([0, 0]);
    expect(frequencies(1, 1e-9).slice(1)).toEqual([0, 0, 0]);
  });
});
