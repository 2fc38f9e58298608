// Merges the updates of a round with a rule of its own, and compares the result with the rule of the coordinator.
// Run: node examples/custom-merge-rule.ts
import { compressUpdate, decodeUpdate, Merge, medianNormClip, updateNorms } from 'lora-swarm/update';

// An adapter of two tensors. All nodes of a job have the same layout.
const layout = [
  { name: 'q_proj.lora_A.weight', shape: [8, 512] },
  { name: 'q_proj.lora_B.weight', shape: [512, 8] },
];

// Three nodes change the adapter in about the same direction. The fourth pushes it back, 20 times as hard.
const noise = (i: number, node: number) => Math.sin(12.9898 * i + 78.233 * node);
const direction = layout.map(() => Float32Array.from({ length: 4096 }, (_, i) => noise(i, 0)));
const payloads = [1, 1, 1, -20].map((size, node) => {
  const change = direction.map((values) => values.map((v, i) => size * (v + noise(i, node + 1))));
  return { peer: `node-${node}`, bytes: compressUpdate(layout, change, 'balanced').bytes };
});

// A payload comes from a stranger. The decoder allocates what the layout allows, and refuses everything else.
const updates = payloads.map(({ peer, bytes }) => ({
  peer,
  update: decodeUpdate(bytes, layout, 'balanced'),
}));
const norms = updates.map(({ update }) => updateNorms(update));

// The standard rule: each tensor is clipped to the median norm, and each update has the weight of its tokens.
const scales = medianNormClip(norms);
const standard = new Merge({ layout });
for (const [i, { peer, update }] of updates.entries()) {
  standard.add({ peer, weight: 1, update, scale: scales[i]! });
}

// Our rule: updates of an extreme norm do not count at all, and the others count unchanged.
const size = norms.map((tensors) => Math.hypot(...tensors));
const median = [...size].sort((a, b) => a - b)[size.length >> 1]!;
const trimmed = new Merge({ layout });
for (const [i, { peer, update }] of updates.entries()) {
  if (size[i]! > 3 * median) console.log(`${peer} is trimmed: norm ${size[i]!.toFixed(0)}`);
  else trimmed.add({ peer, weight: 1, update });
}

// How well a merged change points into the direction that all nodes share.
const cosine = (merged: readonly Float32Array[]): number => {
  const dot = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
    a.reduce((sum, values, t) => values.reduce((s, v, i) => s + v * b[t]![i]!, sum), 0);
  return dot(merged, direction) / Math.sqrt(dot(merged, merged) * dot(direction, direction));
};
console.log(`clipped to the median norm: cosine ${cosine(standard.finish()).toFixed(3)}`);
console.log(`trimmed by norm:            cosine ${cosine(trimmed.finish()).toFixed(3)}`);
