import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Database } from '../../../storage/database.ts';
import { temporaryFolder } from '../../utils/folder.ts';
import { withCode } from '../../utils/source/codes.ts';

const schema = { version: 2, sql: 'CREATE TABLE words (word TEXT PRIMARY KEY) STRICT' };

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
    const db = new Database({ path: await path(), schema });
    expect(db.one('PRAGMA journal_mode')).toEqual({ journal_mode: 'wal' });
    expect(db.one('PRAGMA synchronous')).toEqual({ synchronous: 2 });
    expect(db.one('PRAGMA foreign_keys')).toEqual({ foreign_keys: 1 });
    expect(db.one('PRAGMA busy_timeout')).toEqual({ timeout: 5_000 });
    db.close();
  });

  it('is readable by its owner only, including its WAL files', async () => {
    const file = await path();
    const db = new Database({ path: file, schema });
    add(db, 'secret');
    for (const name of [file, `${file}-wal`, `${file}-shm`])
      expect((await stat(name)).mode & 0o077, name).toBe(0);
    db.close();
  });

  it('refuses a file whose tables have another version, and leaves it as it is', async () => {
    const file = await path();
    const db = new Database({ path: file, schema });
    add(db, 'kept');
    db.close();
    for (const readOnly of [false, true]) {
      const open = (version: number) => () =>
        new Database({ path: file, schema: { ...schema, version }, readOnly });
      const values = { path: file, found: 2 };
      expect(open(1)).toThrow(
        expect.objectContaining({ code: 'STORE_NEWER', values: { ...values, known: 1 } }),
      );
      expect(open(3)).toThrow(
        expect.objectContaining({ code: 'STORE_OLDER', values: { ...values, known: 3 } }),
      );
    }
    const again = new Database({ path: file, schema });
    expect(words(again)).toEqual(['kept']);
    again.close();
  });

  it('creates all tables or none', async () => {
    const file = await path();
    const broken = { version: 2, sql: `${schema.sql}; CREATE TABLE` };
    expect(() => new Database({ path: file, schema: broken })).toThrow(withCode('ERR_SQLITE_ERROR'));
    const db = new Database({ path: file, schema });
    expect(words(db)).toEqual([]);
    db.close();
  });

  it('can be read without a change, while another connection writes', async () => {
    const file = await path();
    expect(() => new Database({ path: file, schema, readOnly: true })).toThrow(withCode('STORE_REFUSED'));
    const db = new Database({ path: file, schema });
    const reader = new Database({ path: file, schema, readOnly: true });
    add(db, 'later');
    expect(words(reader)).toEqual(['later']);
    expect(() => add(reader, 'never')).toThrow(withCode('STORE_REFUSED'));
    reader.close();
    db.close();
  });

  it('reports a full disk, changes nothing, and works again once there is space', async () => {
    const db = new Database({ path: await path(), schema });
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
    expect(() => new Database({ path: file, schema })).toThrow(withCode('STORE_CORRUPT'));
    const copy = `${file}.copy`;
    await copyFile(file, copy);
    expect(() => new Database({ path: copy, schema })).toThrow(withCode('STORE_CORRUPT'));
  });

  it('reports a file that cannot be opened', async () => {
    const file = join(await temporaryFolder(), 'nowhere', 'test.sqlite');
    expect(() => new Database({ path: file, schema })).toThrow(withCode('STORE_REFUSED'));
  });

  it('passes on errors of our own SQL unchanged', async () => {
    const db = new Database({ path: ':memory:', schema });
    add(db, 'once');
    expect(() => add(db, 'once')).toThrow(withCode('ERR_SQLITE_ERROR'));
    expect(() => db.exec('SELEC')).toThrow(withCode('ERR_SQLITE_ERROR'));
    db.close();
  });
});
