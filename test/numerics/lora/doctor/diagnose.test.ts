import { existsSync } from 'node:fs';
import { expect, onTestFinished, test, vi } from 'vitest';
import { describeMachine } from '../../../../lora/doctor/machine.ts';
import { availableMemory } from '../../../../lora/train/memory/available-memory.ts';
import { fakeDiagnosis, fakeProbe } from '../../../utils/swarm/diagnosis.ts';

vi.mock(import('../../../../lora/train/memory/available-memory.ts'), async (original) => {
  const { availableMemory } = await original();
  return { availableMemory: vi.fn(availableMemory) };
});

test('has every engine, with its speed or what it needs', async () => {
  const { problems, engines } = await fakeDiagnosis(false);
  expect(problems).toEqual([]);
  expect(engines.map(({ engine }) => engine)).toEqual(['onnx-cpu', 'onnx-cuda', 'onnx-webgpu', 'tfjs']);
  expect(engines[0]).toMatchObject({ speed: { flops: 2e11 }, tokensPerSecond: null });
  expect(engines[1]).toMatchObject({ speed: null, needs: 'install onnx-cuda' });
});

test('with a base predicts speed and memory, and names the chosen engine', async () => {
  const { engines, base } = await fakeDiagnosis(true);
  const [cpu, , gpu] = engines;
  expect(cpu!.tokensPerSecond).toBeGreaterThan(0);
  expect(gpu!.tokensPerSecond).toBeGreaterThan(cpu!.tokensPerSecond!);
  expect(gpu!.tokensPerSecondInFloat16).toBeGreaterThan(gpu!.tokensPerSecond!);
  expect(cpu!.tokensPerSecondInFloat16).toBeNull();
  expect(base).toMatchObject({ rows: 4, sequenceLength: 64, chosen: { engine: 'onnx-webgpu' } });
  expect(base!.memory).toBeGreaterThan(1e6);
});

test('with an 8-bit base predicts its speed, and skips engines without one', async () => {
  const [whole, found] = [await fakeDiagnosis(true), await fakeDiagnosis(true, { baseBits: 8 })];
  const [cpu, , , tfjs] = found.engines;
  expect(cpu!.tokensPerSecond).toBeGreaterThan(whole.engines[0]!.tokensPerSecond!);
  expect(tfjs).toMatchObject({ speed: null, lacks: expect.stringContaining('8-bit') });
});

test('in float16 uses the engines that support it, and reports a problem if none does', async () => {
  const found = await fakeDiagnosis(true, { precision: 'float16' });
  expect(found.problems).toEqual([]);
  expect(found.engines[0]).toMatchObject({
    tokensPerSecond: null,
    lacks: expect.stringContaining('float16'),
  });
  expect(found.base!.chosen).toMatchObject({ engine: 'onnx-webgpu' });
  const none = await fakeDiagnosis(true, {
    precision: 'float16',
    probe: async (request) => ({ ...(await fakeProbe(request)), speed: null, reason: 'no GPU' }),
  });
  expect(none.base!.chosen).toBeNull();
  expect(none.problems).toEqual([expect.stringContaining('--precision float32')]);
});

test('reports too little memory if the processor trains, but not if a GPU trains', async () => {
  const available = vi.mocked(availableMemory).mockReturnValue(1e6);
  onTestFinished(() => void available.mockReset());
  expect((await fakeDiagnosis(true)).problems).toEqual([]);
  const { base, problems } = await fakeDiagnosis(true, {
    probe: async (request) => ({
      ...(await fakeProbe(request)),
      ...(request.engine !== 'onnx-cpu' && { speed: null, reason: 'no GPU' }),
    }),
  });
  expect(base!.chosen!.engine).toBe('onnx-cpu');
  expect(problems).toEqual([expect.stringContaining('"lora-swarm train --micro-batch 1 --base-bits 4"')]);
});

test('of a machine that cannot train has the reason', async () => {
  const found = await fakeDiagnosis(false, {
    probe: async (request) => ({ ...(await fakeProbe(request)), speed: null, reason: 'broken' }),
  });
  expect(found.problems).toEqual([expect.stringMatching(/^onnx-cpu .*broken/)]);
});

test('describes the machine', async () => {
  const machine = await describeMachine();
  expect(machine.memory).toBeGreaterThan(2 ** 28);
  expect(machine.availableMemory).toBeLessThanOrEqual(machine.memory);
  expect(machine.threads).toBeGreaterThanOrEqual(1);
  const known = existsSync('/proc/cpuinfo') || process.platform === 'darwin';
  if (known) expect(machine.instructions!.length).toBeGreaterThan(0);
  else expect(machine.instructions).toBeNull();
});
