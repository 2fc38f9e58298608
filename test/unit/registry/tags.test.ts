import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isTag, parseReference } from '../../../registry/reference.ts';
import { SCHEMA } from '../../../registry/store/schema.ts';
import { tagStack } from '../../../registry/store/tags.ts';
import { Database } from '../../../storage/database.ts';
import { addSmall, openTestRegistry } from '../../utils/registry/registry.ts';
import { withCode } from '../../utils/source/codes.ts';

describe('tags', () => {
  it('move, are logged with who, when and why, and roll back step by step', async () => {
    const { registry, clock } = await openTestRegistry();
    for (const value of [1, 2, 3]) await addSmall(registry, 'demo', value);
    for (const n of [1, 2, 3]) {
      clock.advance(1000);
      await registry.tag(`demo:v${n}`, 'prod', `release ${n}`);
    }
    const back = await registry.rollback('demo', 'prod', 'v3 repeats itself');
    expect(back).toMatchObject({ kind: 'rollback', from: 3, to: 2, reason: 'v3 repeats itself' });
    expect((await registry.rollback('demo', 'prod', 'still')).to).toBe(1);
    await expect(registry.rollback('demo', 'prod', 'again')).rejects.toMatchObject({
      code: 'ROLLBACK_EMPTY',
      next: expect.stringContaining('adapter tag demo'),
    });
    expect(registry.resolve('demo:prod').number).toBe(1);
    const log = registry.tagLog('demo', 'prod');
    expect(log.map(({ kind, from, to }) => [kind, from, to])).toEqual([
      ['set', null, 1],
      ['set', 1, 2],
      ['set', 2, 3],
      ['rollback', 3, 2],
      ['rollback', 2, 1],
    ]);
    expect(log[1]!.at - log[0]!.at).toBe(1000);
    expect(registry.tagLog('demo').filter(({ tag }) => tag === 'latest')).toHaveLength(3);
  });

  it('skip removed versions when they roll back', async () => {
    const { registry } = await openTestRegistry();
    for (const value of [1, 2, 3]) await addSmall(registry, 'demo', value, { tags: ['prod'] });
    await registry.remove('demo:v2');
    expect((await registry.rollback('demo', 'prod', 'x')).to).toBe(1);
  });

  it('cannot look like a version, and latest cannot be deleted', async () => {
    const { registry } = await openTestRegistry();
    await addSmall(registry, 'demo', 1);
    for (const tag of ['v1', 'v01', 'Best', '', 'a b', '../x'])
      await expect(registry.tag('demo', tag, 'x'), tag).rejects.toThrow(withCode('TAG_NAME'));
    await expect(registry.untag('demo', 'latest', 'x')).rejects.toThrow(withCode('TAG_NAME'));
    await registry.tag('demo', 'best', 'x');
    expect((await registry.untag('demo', 'best', 'x')).to).toBeNull();
    expect(() => registry.resolve('demo:best')).toThrow(withCode('TAG_UNKNOWN'));
    await expect(registry.rollback('demo', 'best', 'x')).rejects.toThrow(withCode('TAG_UNKNOWN'));
  });

  it('have a log whose entries the database does not let anyone change', async () => {
    const { registry, home } = await openTestRegistry();
    await addSmall(registry, 'demo', 1);
    const db = new Database({ path: `${home}/registry.sqlite`, schema: SCHEMA });
    const entries = () => db.all('SELECT * FROM tag_log');
    const before = entries();
    expect(before).not.toEqual([]);
    expect(() => db.run("UPDATE tag_log SET reason = 'x'")).toThrow();
    expect(() => db.run('DELETE FROM tag_log')).toThrow();
    expect(entries()).toEqual(before);
    db.close();
  });

  it('keep a stack from which a roll-back takes the last change', () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), to: fc.integer({ min: 1, max: 4 }) }),
      fc.constant({ kind: 'rollback' as const, to: 0 }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
        const log: { kind: 'set' | 'rollback'; to: number }[] = [];
        // The model: an undo list of the versions, without repetitions in a row.
        const model: number[] = [];
        for (const { kind, to } of actions) {
          if (kind === 'set') {
            if (model.at(-1) === to) continue;
            model.push(to);
            log.push({ kind, to });
          } else if (model.length > 1) {
            model.pop();
            log.push({ kind, to: model.at(-1)! });
          }
        }
        expect(tagStack(log)).toEqual(model);
      }),
    );
  });
});

describe('references', () => {
  it('are read in four forms, and every text gives one of them or null', () => {
    expect(parseReference('a')).toEqual({ name: 'a', tag: 'latest' });
    expect(parseReference('a.b-c:best')).toEqual({ name: 'a.b-c', tag: 'best' });
    expect(parseReference('a:v12')).toEqual({ name: 'a', number: 12 });
    expect(parseReference('a@0123abcd')).toEqual({ name: 'a', digest: '0123abcd' });
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(':', '@', ''), fc.string(), (name, mark, rest) => {
        const reference = parseReference(`${name}${mark}${rest}`);
        if (reference === null) return;
        expect(reference.name).toMatch(/^[a-z0-9][a-z0-9._-]{0,63}$/);
        if ('tag' in reference) expect(isTag(reference.tag)).toBe(true);
      }),
    );
  });
});
