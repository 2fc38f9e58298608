import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Database } from '../../../storage/database.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';

const SCHEMA = 'CREATE TABLE words (word TEXT PRIMARY KEY) STRICT';
const migrations = [SCHEMA];

async function path(): Promise<string> {
  return join(await temporaryFolder(), 'test.sqlite');
}

function words(db: Database): unknown[] {
  return db.all('SELECT word FROM words ORDER BY word').map(({ word }) => word);
}

function add(db: Database, word: string): void {
  db.run('INSERT INTO words (word) VALUES (?)', word);
}

describe('a database', () => {
  it('syncs every commit, and waits for locks of other processes', async () => {
    const db = new Database({ path: await path(), migrations });
    expect(db.one('PRAGMA journal_mode')).toEqual({ journal_mode: 'wal' });
    expect(db.one('PRAGMA synchronous')).toEqual({ synchronous: 2 });
    expect(db.one('PRAGMA foreign_keys')).toEqual({ foreign_keys: 1 });
    expect(db.one('PRAGMA busy_timeout')).toEqual({ timeout: 5_000 });
    db.close();
  });

  it('is readable by its owner only, including its WAL files', async () => {
    const file = await path();
    const db = new Database({ path: file, migrations });
    add(db, 'secret');
    for (const name of [file, `${file}-wal`, `${file}-shm`])
      expect((await stat(name)).mode & 0o077, name).toBe(0);
    db.close();
  });

  it('migrates step by step, each step whole or not at all', async () => {
    const file = await path();
    const db = new Database({ path: file, migrations });
    add(db, 'kept');
    db.close();
    const failure = new Error('no');
    const broken = (opened: Database): void => {
      add(opened, 'rolled back');
      throw failure;
    };
    const grown = 'ALTER TABLE words ADD COLUMN length INTEGER';
    expect(() => new Database({ path: file, migrations: [SCHEMA, grown, broken] })).toThrow(failure);
    const again = new Database({ path: file, migrations: [SCHEMA, grown] });
    expect(again.all('SELECT * FROM words')).toEqual([{ word: 'kept', length: null }]);
    again.close();
    expect(() => new Database({ path: file, migrations })).toThrow(withCode('STORE_NEWER'));
  });

  it('can be read without a change, while another connection writes', async () => {
    const file = await path();
    expect(() => new Database({ path: file, migrations, readOnly: true })).toThrow(withCode('STORE_REFUSED'));
    const db = new Database({ path: file, migrations });
    const reader = new Database({ path: file, migrations, readOnly: true });
    add(db, 'later');
    expect(words(reader)).toEqual(['later']);
    expect(() => add(reader, 'never')).toThrow(withCode('STORE_REFUSED'));
    const newer = [...migrations, 'CREATE TABLE more (id INTEGER)'];
    expect(() => new Database({ path: file, migrations: newer, readOnly: true })).toThrow(
      withCode('STORE_OLDER'),
    );
    reader.close();
    db.close();
  });

  it('reports a full disk, changes nothing, and works again once there is space', async () => {
    const db = new Database({ path: await path(), migrations });
    add(db, 'before');
    const { page_count: pages } = db.one('PRAGMA page_count')! as { page_count: number };
    db.exec(`PRAGMA max_page_count = ${pages}`);
    const fill = (): void =>
      db.transaction(() => {
        add(db, 'small');
        add(db, 'x'.repeat(100_000));
      });
    expect(fill).toThrow(withCode('STORE_FULL'));
    expect(words(db)).toEqual(['before']);
    db.exec(`PRAGMA max_page_count = ${pages + 1_000}`);
    fill();
    expect(words(db)).toHaveLength(3);
    db.close();
  });

  it('reports a damaged file and does not change it', async () => {
    const file = await path();
    await writeFile(
      file,
      'text that is longer than the header of an SQLite file, which has a hundred bytes; '.repeat(3),
    );
    expect(() => new Database({ path: file, migrations })).toThrow(withCode('STORE_CORRUPT'));
    const copy = `${file}.copy`;
    await copyFile(file, copy);
    expect(() => new Database({ path: copy, migrations })).toThrow(withCode('STORE_CORRUPT'));
  });

  it('reports a file that cannot be opened', async () => {
    const file = join(await temporaryFolder(), 'nowhere', 'test.sqlite');
    expect(() => new Database({ path: file, migrations })).toThrow(withCode('STORE_REFUSED'));
  });

  it('passes on errors of our own SQL unchanged', async () => {
    const db = new Database({ path: ':memory:', migrations });
    add(db, 'once');
    expect(() => add(db, 'once')).toThrow(withCode('ERR_SQLITE_ERROR'));
    expect(() => db.exec('SELEC')).toThrow(withCode('ERR_SQLITE_ERROR'));
    db.close();
  });
});
