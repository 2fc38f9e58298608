import type { ModelBundle } from '../../index.ts';
import type { Context } from '../context.ts';

/** Measures the loss of base and adapter on the test chapters as `lora-swarm evaluate` does, in nats per token. */
export async function testLosses(
  { signal }: Pick<Context, 'signal'>,
  { test, bundle }: { test: string; bundle: ModelBundle },
): Promise<{ baseLoss: number; finalLoss: number }> {
  const { evaluate } = await import('../../index.ts');
  const loss = async (of: ModelBundle): Promise<number> => (await evaluate(of, { data: test, signal })).loss;
  return { baseLoss: await loss({ ...bundle, adapter: null }), finalLoss: await loss(bundle) };
}
