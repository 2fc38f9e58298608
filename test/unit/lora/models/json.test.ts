import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseJsonObject } from '../../../../lora/models/json.ts';
import { withCode } from '../../../utils/source/codes.ts';

test.each([
  ['{"a":1,"a":2}', 'a'],
  ['{"a":{"b":1,"c":2,"b":3}}', 'b'],
  ['{"a":[{"x":"}{"},{"x":1,"x" \n:2}]}', 'x'],
  ['{"\\u0061":1,"a":2}', 'a'],
])('refuses a repeated key: %s', (text, key) => {
  expect(() => parseJsonObject(text, 'f.json')).toThrow(withCode('MODEL_JSON', { key }));
});

test.each(['', '{"a":', '[]', 'null', '"text"', '3'])(
  'refuses text that is not a JSON object: %s',
  (text) => {
    expect(() => parseJsonObject(text, 'f.json')).toThrow(withCode('MODEL_JSON'));
  },
);

test('reads every object without repeated keys like JSON.parse', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.constantFrom(undefined, 2),
      (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(parseJsonObject(text, 'f.json')).toEqual(JSON.parse(text));
      },
    ),
  );
});

test('does not overflow the stack on a string of millions of characters', () => {
  const text = JSON.stringify({ long: '\\"'.repeat(3_000_000) });
  expect(parseJsonObject(text, 'f.json')).toHaveProperty('long');
});
