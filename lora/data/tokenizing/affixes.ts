import { type Part, partOf, partsOf, textOf, unsupported } from './part.ts';

/** Ids that the tokenizer puts before and after a text. */
export interface Affixes {
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
}

const NONE: Affixes = { prefix: [], suffix: [] };

/** Reads the `post_processor` of tokenizer.json. @throws TOKENIZER_UNSUPPORTED */
export function affixesOf(value: unknown): Affixes {
  const part = partOf(value, 'post_processor');
  if (part === null) return NONE;
  switch (part.type) {
    case 'ByteLevel':
      return NONE;
    case 'TemplateProcessing':
      return template(part);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { prefix: [idOf(part.cls)], suffix: [idOf(part.sep)] };
    case 'Sequence': {
      const all = partsOf(part.processors, 'processors').map(affixesOf);
      return all.reduce(
        (inner, { prefix, suffix }) => ({
          prefix: [...prefix, ...inner.prefix],
          suffix: [...inner.suffix, ...suffix],
        }),
        NONE,
      );
    }
    default:
      throw unsupported('post_processor', part.type);
  }
}

function template(part: Part): Affixes {
  const known = partOf(part.special_tokens, 'special_tokens') ?? {};
  const prefix: number[] = [];
  const suffix: number[] = [];
  let side = prefix;
  for (const item of partsOf(part.single, 'post_processor.single')) {
    if ('Sequence' in item) {
      if (side === suffix) throw unsupported('post_processor.single', part.single);
      side = suffix;
      continue;
    }
    const name = textOf(partOf(item.SpecialToken, 'SpecialToken')?.id, 'SpecialToken');
    const { ids } = partOf(known[name], `special token ${name}`) ?? {};
    if (!Array.isArray(ids) || !ids.every((id) => Number.isInteger(id)))
      throw unsupported('post_processor.single', item);
    side.push(...(ids as number[]));
  }
  return { prefix, suffix };
}

/** Reads the id of a pair [text, id]. */
function idOf(pair: unknown): number {
  if (Array.isArray(pair) && Number.isInteger(pair[1])) return pair[1] as number;
  throw unsupported('post_processor', pair);
}
