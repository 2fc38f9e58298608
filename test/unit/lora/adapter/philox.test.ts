import { expect, test } from 'vitest';
import { philox } from '../../../../lora/adapter/philox.ts';

// Known answers published by the authors of Random123 for philox4x32 with 10 rounds.
test.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])('gives the known answer for counter %j and key %j', (counter, key, words) => {
  const [c0, c1, c2, c3] = counter as [number, number, number, number];
  const [k0, k1] = key as [number, number];
  expect(philox([c0, c1, c2, c3], [k0, k1])).toEqual(words);
});
