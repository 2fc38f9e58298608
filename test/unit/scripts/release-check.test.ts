import { expect, it } from 'vitest';
import { changelogEntries, checkChangelog } from '../../../scripts/release-check.ts';

const CHANGELOG = `# Changelog

Text.

## Unreleased

### Added
- a

## 1.2.0 - 2026-11-01

### Fixed
- b
- c

## 1.1.0

### Fixed
`;

it('finds the entries of a version, not its headings', () => {
  expect(changelogEntries(CHANGELOG, 'Unreleased')).toEqual(['- a']);
  expect(changelogEntries(CHANGELOG, '1.2.0')).toEqual(['- b', '- c']);
  expect(changelogEntries(CHANGELOG, '1.1.0')).toEqual([]);
  expect(changelogEntries(CHANGELOG, '1.2')).toEqual([]);
});

it('fails without entries for the version and without unreleased ones', () => {
  checkChangelog(CHANGELOG, '9.9.9');
  checkChangelog(CHANGELOG.replace('- a', ''), '1.2.0');
  expect(() => checkChangelog(CHANGELOG.replace('- a', ''), '1.1.0')).toThrow('1.1.0');
});
