// Merges the updates of a round with a custom rule, and compares the result with that of the coordinator's rule.
// Run: node examples/custom-merge-rule.ts
import { compressUpdate, decodeUpdate, Merge, medianNormClip, updateNorms } from 'lora-swarm/update';

// An adapter of two tensors. All nodes of a job have the same layout.
const layout = [
  { name: 'q_proj.lora_A.weight', shape: [8, 512] },
  { name: 'q_proj.lora_B.weight', shape: [512, 8] },
];

// Three nodes change the adapter in about the same direction. The fourth node changes it in the opposite
// direction, by 20 times as much.
const noise = (i: number, node: number) => Math.sin(12.9898 * i + 78.233 * node);
const direction = layout.map(() => Float32Array.from({ length: 4096 }, (_, i) => noise(i, 0)));
const payloads = [1, 1, 1, -20].map((size, node) => {
  const change = direction.map((values) => values.map((v, i) => size * (v + noise(i, node + 1))));
  return { peer: `node-${node}`, bytes: compressUpdate(layout, change, 'balanced').bytes };
});

// Payloads come from strangers, so the decoder refuses every payload that does not fit the layout.
const updates = payloads.map(({ peer, bytes }) => ({
  peer,
  update: decodeUpdate(bytes, layout, 'balanced'),
}));
const norms = updates.map(({ update }) => updateNorms(update));

// The standard rule clips each tensor to the median norm. A coordinator also weights each update by its tokens. Here all
// weights are 1.
const scales = medianNormClip(norms);
const standard = new Merge({ layout });
for (const [i, { peer, update }] of updates.entries()) {
  standard.add({ peer, weight: 1, update, scale: scales[i]! });
}

// Our rule leaves out updates whose norm is more than three times the median, and does not clip the others.
const size = norms.map((tensors) => Math.hypot(...tensors));
const median = [...size].sort((a, b) => a - b)[size.length >> 1]!;
const trimmed = new Merge({ layout });
for (const [i, { peer, update }] of updates.entries()) {
  if (size[i]! > 3 * median) console.log(`${peer} is trimmed: norm ${size[i]!.toFixed(0)}`);
  else trimmed.add({ peer, weight: 1, update });
}

// Returns the cosine of the angle between a merged change and the direction that the honest nodes share.
const cosine = (merged: readonly Float32Array[]): number => {
  const dot = (a: readonly Float32Array[], b: readonly Float32Array[]) =>
    a.reduce((sum, values, t) => values.reduce((s, v, i) => s + v * b[t]![i]!, sum), 0);
  return dot(merged, direction) / Math.sqrt(dot(merged, merged) * dot(direction, direction));
};
console.log(`clipped to the median norm: cosine ${cosine(standard.finish()).toFixed(3)}`);
console.log(`trimmed by norm:            cosine ${cosine(trimmed.finish()).toFixed(3)}`);
