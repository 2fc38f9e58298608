import type { Renderer } from '../../lora/data/render/renderer.ts';
import type { TextTokenizer } from '../../lora/data/tokenizer.ts';

/** Returns a renderer for plain text only. */
export function textRenderer(tokenizer: TextTokenizer): Renderer {
  return { tokenizer, sources: null, specialTokens: {}, trainOn: null, runner: null, close: async () => {} };
}
