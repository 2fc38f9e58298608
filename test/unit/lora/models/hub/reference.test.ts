import { expect, it } from 'vitest';
import { hubOrigin, parseHubReference } from '../../../../../lora/models/hub/reference.ts';

it.each([
  ['org/name', 'org/name', 'main'],
  ['HuggingFaceTB/SmolLM2-135M@v1.0', 'HuggingFaceTB/SmolLM2-135M', 'v1.0'],
  ['a/b@refs/pr/3', 'a/b', 'refs/pr/3'],
  [`a/b.c_d@${'0'.repeat(40)}`, 'a/b.c_d', '0'.repeat(40)],
])('%s is a hub reference', (text, name, revision) => {
  expect(parseHubReference(text)).toEqual({ name, revision });
});

it.each([
  '',
  'name',
  './org/name',
  '../name',
  '/org/name',
  '~/name',
  'org/name/more',
  'org/..',
  'org/na..me',
  'org/na--me',
  'org/name.git',
  'org/name.',
  'org/name@',
  'org/name@../../x',
  'org/name@a/.b',
  'org/name@-x',
  'org/name@a b',
  'org/name@a\\b',
  'org/name@a\0b',
  'org/na me',
  `org/${'n'.repeat(97)}`,
  'C:\\models\\x',
])('%j is not a hub reference', (text) => {
  expect(parseHubReference(text)).toBeNull();
});

it('reads model and commit from the path of a snapshot folder', () => {
  const commit = 'b'.repeat(40);
  expect(hubOrigin(`/home/ada/.cache/huggingface/hub/models--org--name/snapshots/${commit}`)).toEqual({
    name: 'org/name',
    revision: commit,
  });
  expect(hubOrigin(`/x/datasets--org--name/snapshots/${commit}`)).toBeNull();
  expect(hubOrigin('/x/models--org--name/snapshots/main')).toBeNull();
  expect(hubOrigin('/x/model')).toBeNull();
  expect(hubOrigin('/')).toBeNull();
});
