import { type FileHandle, open } from 'node:fs/promises';
import type { Tensor } from '../../graph/graph.ts';
import { engineError } from '../errors.ts';
import { locateWeight, type WeightEntry, type WeightFile } from '../weights.ts';
import type { TensorFlow, Value } from './lower.ts';

/** Bytes of one read from a file. Node.js reads less than 2 GiB at once. */
const READ_BYTES = 2 ** 30;

interface Held {
  readonly value: Promise<Value>;
  users: number;
}

/**
 * Holds the base's weights on the backend, once for all executables of an engine. A trainer has one graph for training
 * and one for evaluation. Without this store, each graph would hold its own copy of the weights, because TensorFlow
 * cannot map a file as onnxruntime can. JavaScript holds only the tensor that is being sent.
 */
export class WeightStore {
  readonly #tf: TensorFlow;
  readonly #held = new Map<string, Held>();

  constructor(tf: TensorFlow) {
    this.#tf = tf;
  }

  /**
   * Returns the weight's value, and loads it if no other executable has done so. The value stays until every lease is
   * released.
   * @throws SwarmError ENGINE_WEIGHTS, and ENGINE_COMPILE when the file cannot be read
   */
  async acquire(name: string, tensor: Tensor, weights: WeightFile | null): Promise<WeightLease> {
    const { path, entry } = locateWeight(name, tensor, weights);
    const key = `${path}\0${entry.offset}\0${entry.shape.join()}`;
    let held = this.#held.get(key);
    if (held === undefined) {
      held = { value: this.#load(path, entry), users: 0 };
      this.#held.set(key, held);
    }
    const current = held;
    current.users++;
    const release = async () => {
      if (--current.users > 0) return;
      this.#held.delete(key);
      (await current.value.catch(() => null))?.dispose();
    };
    try {
      return { value: await current.value, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  async #load(path: string, entry: WeightEntry): Promise<Value> {
    const values = await readFloats(path, entry);
    const sent = this.#tf.tensor(values, [...entry.shape], 'float32');
    try {
      // The packages for Node.js keep the JavaScript array until an operation needs the tensor. This reshape is such an
      // operation. It copies the array to the device, whose memory may run out. Its result shares memory with its
      // operand.
      return this.#tf.reshape(sent, [...entry.shape]);
    } finally {
      sent.dispose();
    }
  }
}

export interface WeightLease {
  readonly value: Value;
  release(): Promise<void>;
}

async function readFloats(path: string, entry: WeightEntry): Promise<Float32Array> {
  try {
    const file = await open(path, 'r');
    try {
      return await readFrom(file, entry);
    } finally {
      await file.close();
    }
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw engineError(
      'ENGINE_COMPILE',
      `reading weights from ${path} failed: ${message}`,
      { path, offset: entry.offset, length: entry.length },
      { cause },
    );
  }
}

async function readFrom(file: FileHandle, { offset, length }: WeightEntry): Promise<Float32Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, Math.min(READ_BYTES, length - done), offset + done);
    if (bytesRead === 0) throw new Error(`the file ends at byte ${offset + done}`);
    done += bytesRead;
  }
  return new Float32Array(bytes.buffer);
}
