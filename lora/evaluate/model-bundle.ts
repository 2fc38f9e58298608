import { adapterLayout } from '../adapter/layout.ts';
import type { LoraConfig } from '../adapter/lora-config.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import type { Engine, WeightFile } from '../engines/engine.ts';
import type { BaseModel } from '../models/base-model.ts';

/** What is evaluated or generates: a base model on an engine, with or without an adapter. */
export interface Subject {
  readonly model: BaseModel;
  readonly engine: Engine;
  /** The base's weights as `prepareWeights` made them. */
  readonly weights: WeightFile;
  readonly tokenizer: TextTokenizer;
  /** Tensors in layout order; null for the bare base. */
  readonly adapter: { readonly lora: LoraConfig; readonly tensors: readonly Float32Array[] } | null;
}

/** The adapter's tensors by the names of the graph's inputs. */
export function adapterFeeds({ model, adapter }: Subject): Map<string, Float32Array> {
  if (adapter === null) return new Map();
  const layout = adapterLayout(model, adapter.lora);
  return new Map(layout.map(({ name }, i) => [name, adapter.tensors[i]!]));
}
