import fc from 'fast-check';
import { expect, it } from 'vitest';
import { versionManifestSchema } from '../../../protocol/version-manifest.ts';
import { versionCurve } from '../../../registry/version-curve.ts';

const losses = fc.array(fc.option(fc.double({ min: 0, max: 20, noNaN: true })), { maxLength: 400 });

it('keeps the first and the last measured loss, in order, and fits into a manifest', () => {
  fc.assert(
    fc.property(losses, (values) => {
      const points = values.map((loss, at) => ({ at, loss }));
      const measured = points.filter(({ loss }) => loss !== null);
      const curve = versionCurve(points);
      expect(versionManifestSchema.shape.curve.parse(curve)).toEqual(curve);
      expect([curve[0], curve.at(-1)]).toEqual([measured[0], measured.at(-1)]);
      expect(curve).toEqual([...curve].sort((a, b) => a.at - b.at));
      expect(new Set(curve.map(({ at }) => at)).size).toBe(curve.length);
    }),
  );
});
