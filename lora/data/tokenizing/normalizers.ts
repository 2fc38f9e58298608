import { type Part, partOf, partsOf, textOf, unsupported } from './part.ts';
import { patternOf } from './patterns.ts';

export type Normalize = (text: string) => string;

/** Reads the `normalizer` of tokenizer.json. @throws TOKENIZER_UNSUPPORTED */
export function normalizerOf(value: unknown): Normalize {
  const part = partOf(value, 'normalizer');
  return part === null ? (text) => text : build(part);
}

function build(part: Part): Normalize {
  switch (part.type) {
    case 'Sequence': {
      const steps = partsOf(part.normalizers, 'normalizers').map(build);
      return (text) => steps.reduce((result, step) => step(result), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = part.type;
      return (text) => text.normalize(form);
    }
    case 'Replace': {
      const pattern = patternOf(part.pattern, 'normalizer.pattern');
      const content = textOf(part.content, 'normalizer.content');
      return (text) => text.replace(pattern, () => content);
    }
    case 'Prepend': {
      const start = textOf(part.prepend, 'normalizer.prepend');
      return (text) => (text === '' ? '' : start + text);
    }
    default:
      throw unsupported('normalizer', part.type);
  }
}
