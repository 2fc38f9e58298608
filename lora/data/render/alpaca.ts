/** Renders instructions: as messages for a chat template, or as the text of Stanford Alpaca. */
import type { Example, Message } from '../examples.ts';

type Instruction = Extract<Example, { kind: 'instruction' }>;

/**
 * Converts an instruction to messages. As in the documentation of LLaMA-Factory, the user's turn is the instruction, a
 * newline and the input. Earlier turns come first.
 */
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
 * Writes an instruction as the prompt of Stanford Alpaca (2023). The wording is exact, because models were trained with
 * it. A system text replaces the introduction. Earlier turns precede the instruction in the same form.
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
