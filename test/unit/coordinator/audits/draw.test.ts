import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { auditKey, type DrawnUpdate, drawAudits, isWatched } from '../../../../coordinator/audits/draw.ts';
import { AUDIT_SHARE } from '../../../../verify/scores/extra-work.ts';

const seedOf = (number: number): Uint8Array => Uint8Array.from({ length: 32 }, (_, i) => (number >> i) & 255);

describe('the draw of audits', () => {
  test('never costs more than the credit, and holds the best update that was not chosen', () => {
    const update = fc.record({
      peer: fc.string(),
      round: fc.nat(100),
      rows: fc.integer({ min: 1, max: 500 }),
      key: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(update), fc.integer({ min: -100, max: 2_000 }), (updates, credit) => {
        const { chosen, held } = drawAudits(updates, credit);
        expect(chosen.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(Math.max(0, credit));
        const rest = updates.filter((one) => !chosen.includes(one));
        expect(held === null).toBe(rest.length === 0);
        for (const other of rest) expect(other.key).toBeLessThanOrEqual(held!.key);
        for (const one of chosen) expect(one.key).toBeGreaterThanOrEqual(held?.key ?? 0);
      }),
    );
  });

  test('over many rounds, costs a share of the rows, whatever the credit of a round', () => {
    const rows = 160;
    let trained = 0;
    let spent = 0;
    let held: DrawnUpdate | null = null;
    for (let round = 1; round <= 500; round++) {
      const fresh = ['a', 'b'].map((peer) => {
        const key = auditKey(seedOf(round), { peer, round, isWatched: false });
        return { peer, round, rows, key };
      });
      trained += 2 * rows;
      const drawn = drawAudits([...fresh, ...(held ? [held] : [])], AUDIT_SHARE * trained - spent);
      spent += drawn.chosen.length * rows;
      held = drawn.held;
      expect(spent).toBeLessThanOrEqual(AUDIT_SHARE * trained);
    }
    expect(spent).toBeGreaterThan(0.95 * AUDIT_SHARE * trained);
  });

  test('no round of a small swarm is safe: each round since the last audit is chosen as often', () => {
    // With AUDIT_SHARE, two nodes can afford an audit after every 25th round. The chosen rounds must be spread over all
    // of these rounds.
    const ages: number[] = [];
    let held: DrawnUpdate | null = null;
    let credit = 0;
    for (let round = 1; round <= 25_000; round++) {
      const fresh = ['a', 'b'].map((peer) => {
        return { peer, round, rows: 1, key: auditKey(seedOf(round), { peer, round, isWatched: false }) };
      });
      credit += 2 * AUDIT_SHARE;
      const drawn = drawAudits([...fresh, ...(held ? [held] : [])], credit + 1e-9);
      credit -= drawn.chosen.length;
      held = drawn.held;
      for (const one of drawn.chosen) ages.push(round - one.round);
    }
    const older = ages.filter((age) => age >= 12).length / ages.length;
    expect(ages.length).toBeGreaterThan(900);
    expect(older).toBeGreaterThan(0.4);
    expect(older).toBeLessThan(0.65);
  });

  test('an author that failed an audit stays watched while the strike counts, whatever its shares', () => {
    const results = [
      { peer: 'a', round: 10, state: 'failed' },
      { peer: 'b', round: 10, state: 'passed' },
    ];
    const author = (peer: string, round: number, shares = [1, 1, 1]) =>
      isWatched({ peer, round, shares }, results);
    expect(author('a', 29)).toBe(true);
    expect(author('a', 30)).toBe(false);
    expect(author('b', 11)).toBe(false);
    expect(author('b', 11, [1, 0.1, 1])).toBe(true);
    expect(author('c', 11, [1, 1])).toBe(true);
  });

  test('a watched author is chosen about as often as four others together', () => {
    let doubtful = 0;
    const draws = 4_000;
    for (let round = 1; round <= draws; round++) {
      const updates = ['a', 'b', 'c', 'd', 'e'].map((peer) => {
        const isWatched = peer === 'a';
        return { peer, round, rows: 1, key: auditKey(seedOf(round), { peer, round, isWatched }) };
      });
      if (drawAudits(updates, 1).chosen[0]!.peer === 'a') doubtful++;
    }
    expect(doubtful / draws).toBeGreaterThan(0.47);
    expect(doubtful / draws).toBeLessThan(0.53);
  });
});
