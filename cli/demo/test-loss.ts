import type { ModelBundle } from '../../lora/evaluate/model-bundle.ts';
import type { Context } from '../context.ts';

/** Measures base and adapter on the test chapters as `swarm evaluate` does. In nats per token. */
export async function testLosses(
  { signal }: Pick<Context, 'signal'>,
  { test, bundle }: { test: string; bundle: ModelBundle },
): Promise<{ baseLoss: number; finalLoss: number }> {
  const [{ evaluateText }, { readTexts }] = await Promise.all([
    import('../../lora/evaluate/evaluate.ts'),
    import('../../lora/data/read-examples.ts'),
  ]);
  const loss = async (of: ModelBundle): Promise<number> =>
    (await evaluateText({ texts: readTexts(test, { signal }), signal }, of)).loss;
  return { baseLoss: await loss({ ...bundle, adapter: null }), finalLoss: await loss(bundle) };
}
