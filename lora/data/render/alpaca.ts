/** Instructions with and without a chat template. */
import type { Example, Message } from '../examples.ts';

type Instruction = Extract<Example, { kind: 'instruction' }>;

/** The user's turn is instruction, newline, input, as LLaMA-Factory documents it; earlier turns go before it. */
export function instructionMessages({ instruction, input, output, system, history }: Instruction): Message[] {
  const turn = (user: string, assistant: string): Message[] => [
    { role: 'user', content: user },
    { role: 'assistant', content: assistant },
  ];
  return [
    ...(system === null || system === '' ? [] : [{ role: 'system', content: system }]),
    ...history.flatMap(([asked, answered]) => turn(asked, answered)),
    ...turn(input === '' ? instruction : `${instruction}\n${input}`, output),
  ];
}

/**
 * The prompt that Stanford Alpaca (2023) was trained with; models know it by these words. A system text takes the
 * place of its introduction, and earlier turns stand before the instruction in the same form.
 */
export function alpacaText({ instruction, input, output, system, history }: Instruction): {
  prompt: string;
  completion: string;
} {
  const introduction =
    system ||
    (input === ''
      ? 'Below is an instruction that describes a task. Write a response that appropriately completes the request.'
      : 'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.');
  const parts = [
    introduction,
    ...history.flatMap(([asked, answered]) => [`### Instruction:\n${asked}`, `### Response:\n${answered}`]),
    `### Instruction:\n${instruction}`,
    ...(input === '' ? [] : [`### Input:\n${input}`]),
  ];
  return { prompt: `${parts.join('\n\n')}\n\n### Response:\n`, completion: output };
}
