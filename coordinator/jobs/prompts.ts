import type { Clock } from '../../common/time/clock.ts';
import { readTemplates } from '../../lora/data/render/chat-template.ts';
import { TemplateRunner } from '../../lora/data/render/template-runner.ts';
import { IGNORED_LABEL, type Row } from '../../lora/data/row.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';
import type { JobSpec } from '../../lora/finetune/settings/job-spec.ts';
import { coordinatorError } from '../errors.ts';
import { decodeHeldOut, gateRows } from '../merge/held-out.ts';
import type { JobSamples, SamplePrompt } from '../store/samples.ts';

/** Maximum number of tokens of a prompt. Generating gets slower with the length of the prompt. */
const MAX_PROMPT_TOKENS = 512;
/**
 * Number of tokens of a prompt from a held-out row that begins with supervised tokens. A row that begins with other
 * tokens, such as a user's message, gives these tokens as the prompt.
 */
const BEGINNING_TOKENS = 24;
/** Maximum number of characters that are stored as the text of a prompt from a held-out row. */
const SHOWN_CHARACTERS = 2_000;
/**
 * Default number of held-out rows whose beginnings are prompts. It applies if the operator sets no prompts and no
 * number.
 */
const DEFAULT_ROWS = 3;

/**
 * Reads the prompts of a new job, so that a mistake in them is found before the job begins.
 * @returns the prompts that the operator wrote; empty if there are none
 * @throws SwarmError SAMPLES_PROMPT; TEMPLATE_* if the chat template cannot render a prompt
 */
export async function readPrompts(
  spec: Pick<JobSpec, 'samples' | 'base' | 'data' | 'admission'>,
  tokenizer: TextTokenizer,
  { clock }: { clock: Pick<Clock, 'now'> },
): Promise<SamplePrompt[]> {
  const { samples } = spec;
  if (samples === null) return [];
  if (samples.prompts.length === 0 && heldOutCount(spec) === 0) {
    throw coordinatorError(
      'SAMPLES_PROMPT',
      'the job has samples, but no prompts. Beginnings of held-out rows are prompts by default only if everyone may join the job (admission: open)',
      {},
      { next: 'set samples.prompts, or set samples.heldOut to a number of held-out rows' },
    );
  }
  const { prompts, chat } = samples;
  const rendered = chat ? await renderAll(spec, prompts, clock.now()) : prompts;
  return prompts.map((text, i) => {
    const ids = tokenizer.encode(rendered[i]!, { special: false });
    const tokens = chat ? ids : [...tokenizer.prefix, ...ids];
    if (tokens.length <= MAX_PROMPT_TOKENS) return { text, tokens, isHeldOut: false };
    throw coordinatorError(
      'SAMPLES_PROMPT',
      `samples.prompts[${i}] has ${tokens.length} tokens; the maximum is ${MAX_PROMPT_TOKENS}`,
      { prompt: i, tokens: tokens.length, limit: MAX_PROMPT_TOKENS },
      { next: 'write a shorter prompt' },
    );
  });
}

/** Returns the samples of a new job: the operator's prompts, and the beginnings of held-out rows. */
export function jobSamples(
  spec: Pick<JobSpec, 'samples' | 'admission'>,
  prompts: readonly SamplePrompt[],
  heldOut: Uint8Array,
  tokenizer: TextTokenizer,
): JobSamples | null {
  if (spec.samples === null) return null;
  const { every, maxTokens } = spec.samples;
  const count = heldOutCount(spec);
  const rows = count === 0 ? [] : gateRows(decodeHeldOut(heldOut), count);
  return { prompts: [...prompts, ...rows.map((row) => beginning(row, tokenizer))], every, maxTokens };
}

/** Returns the number of held-out rows whose beginnings are prompts. */
function heldOutCount({ samples, admission }: Pick<JobSpec, 'samples' | 'admission'>): number {
  if (samples === null) return 0;
  const isPublic = admission === 'open' && samples.prompts.length === 0;
  return samples.heldOut ?? (isPublic ? DEFAULT_ROWS : 0);
}

/**
 * Returns the beginning of a row's first segment. If the segment begins with tokens that are not supervised, such as a
 * user's message, these tokens are the prompt.
 */
export function beginning({ ids, labels, segments }: Row, tokenizer: TextTokenizer): SamplePrompt {
  const end = segments.findIndex((segment) => segment !== segments[0]);
  const length = end < 0 ? ids.length : end;
  const supervised = labels.findIndex((label) => label !== IGNORED_LABEL);
  // The label at position i is the token at position i + 1.
  const count =
    supervised > 0
      ? Math.min(supervised + 1, length)
      : Math.max(1, Math.min(BEGINNING_TOKENS, Math.floor(length / 2)));
  const tokens = [...ids.slice(Math.max(0, count - MAX_PROMPT_TOKENS), count)];
  return {
    text: tokenizer.decode(tokens).slice(0, SHOWN_CHARACTERS).toWellFormed(),
    tokens,
    isHeldOut: true,
  };
}

/** Renders each prompt as the message of a user, followed by the beginning of the assistant's answer. */
async function renderAll(
  { base, data }: Pick<JobSpec, 'base' | 'data'>,
  prompts: readonly string[],
  now: number,
): Promise<string[]> {
  const { sources, specialTokens } = await readTemplates(base, data.template);
  if (sources === null) {
    throw coordinatorError(
      'SAMPLES_PROMPT',
      'samples.chat is set, but the base has no chat template, and data.template names none',
      {},
      { next: 'set data.template, for example to "chatml", or leave out samples.chat' },
    );
  }
  const variables = { ...specialTokens, ...data.templateVariables };
  const runner = new TemplateRunner({ templates: sources.templates, variables, now });
  try {
    const texts: string[] = [];
    for (const content of prompts) {
      const messages = [{ role: 'user', content }];
      const parts = [{ end: 1, addGenerationPrompt: true }];
      const { text, lengths, odd } = await runner.render({ template: 'default', messages, parts });
      // `text` is rendered without a generation prompt. If it is not the beginning of the prompt, `odd` has the whole
      // prompt.
      texts.push(odd?.text ?? text.slice(0, lengths[0]));
    }
    return texts;
  } finally {
    await runner.close();
  }
}
