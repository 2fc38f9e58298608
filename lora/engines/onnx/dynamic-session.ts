import type { InferenceSession } from 'onnxruntime-node';
import { engineError } from '../errors.ts';
import type { SizedValue } from '../sized-value.ts';
import type { DynamicExecutable } from '../types.ts';
import { messageOf, providerMessage } from './provider-message.ts';

type Values<Value> = Readonly<Record<string, Value>>;

/** A compiled graph for the processor, whose sizes are known only when it runs. */
export class DynamicSession implements DynamicExecutable {
  #session: InferenceSession | null;

  constructor(session: InferenceSession) {
    this.#session = session;
  }

  async run(
    feeds: Values<SizedValue>,
    into: Values<SizedValue | null>,
  ): Promise<Record<string, Float32Array>> {
    if (this.#session === null) throw engineError('ENGINE_DISPOSED', 'the executable has been disposed of');
    const prefixed = <T>(kind: string, values: Values<T>) =>
      Object.fromEntries(Object.entries(values).map(([name, value]) => [`${kind}:${name}`, value]));
    try {
      const options = { logSeverityLevel: 4 } as const;
      const results = await this.#session.run(prefixed('in', feeds), prefixed('out', into), options);
      return Object.fromEntries(
        Object.entries(results).map(([name, value]) => [name.slice(4), value.data as Float32Array]),
      );
    } catch (cause) {
      const reason = providerMessage(messageOf(cause));
      throw engineError('ENGINE_RUN', `running the graph failed: ${reason}`, {}, { cause });
    }
  }

  async dispose(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    await session?.release();
  }
}
