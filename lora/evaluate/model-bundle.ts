import { adapterLayout } from '../adapter/layout.ts';
import type { LoraConfig } from '../adapter/lora-config.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import type { Engine, WeightFile } from '../engines/engine.ts';
import type { BaseModel } from '../models/base-model.ts';

/** A base model with its tokenizer and weights, an engine, and perhaps an adapter, opened together. */
export interface ModelBundle {
  readonly model: BaseModel;
  readonly engine: Engine;
  /** The base's weights, as `prepareWeights` returns them. */
  readonly weights: WeightFile;
  readonly tokenizer: TextTokenizer;
  /** Tensors in layout order; null: the base alone. */
  readonly adapter: { readonly lora: LoraConfig; readonly tensors: readonly Float32Array[] } | null;
}

/** Returns the adapter's tensors by the names of the graph's inputs. */
export function adapterFeeds({ model, adapter }: ModelBundle): Map<string, Float32Array> {
  if (adapter === null) return new Map();
  const layout = adapterLayout(model, adapter.lora);
  return new Map(layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
}
