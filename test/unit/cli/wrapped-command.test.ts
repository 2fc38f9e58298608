import { expect, it } from 'vitest';
import { wrappedAdvice, wrappedCommand } from '../../../cli/wrapped-command.ts';
import { pretendPlatform } from '../../utils/source/platform.ts';

const NPM = 'npm install --save-optional @tensorflow/tfjs-node@4.22.0';
const ADVICE = `in the folder of the package, run "${NPM}" (for the processor), or leave "tfjs" out`;

it('breaks a command before its options, so that a shell can run the copied lines', () => {
  expect(wrappedCommand(NPM, undefined)).toEqual([NPM]);
  expect(wrappedCommand(NPM, NPM.length)).toEqual([NPM]);
  const lines = wrappedCommand(NPM, 50);
  expect(lines).toEqual(['npm install \\', '  --save-optional @tensorflow/tfjs-node@4.22.0']);
});

it('leaves a command whole on Windows', () => {
  pretendPlatform('win32');
  expect(wrappedCommand(NPM, 20)).toEqual([NPM]);
});

it('gives each command in an advice lines of its own, and breaks the rest at spaces', () => {
  expect(wrappedAdvice(ADVICE, { indent: 2, columns: Number.POSITIVE_INFINITY })).toEqual([`  ${ADVICE}`]);
  expect(wrappedAdvice(ADVICE, { indent: 2, columns: 52 })).toEqual([
    '  in the folder of the package, run',
    '      npm install \\',
    '        --save-optional @tensorflow/tfjs-node@4.22.0',
    '  (for the processor), or leave "tfjs" out',
  ]);
});
