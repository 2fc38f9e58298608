import { isSwarmError } from '../../common/errors.ts';
import type { AdapterLayout } from '../../lora/adapter/layout.ts';
import { encodeUpdate } from '../../lora/update/index.ts';
import { sha256 } from '../../protocol/cbor.ts';
import type { Update } from '../../protocol/messages.ts';
import { type Signer, signMessage, verifyMessage } from '../../protocol/signing.ts';
import { mutate } from '../../scripts/fuzz/mutate.ts';
import { signerOf } from '../utils/swarm/signers.ts';
import { SeededRandom } from '../utils/virtual/seeded-random.ts';
import type { ToyJob } from '../utils/virtual/toy-job.ts';
import type { VirtualHost } from '../utils/virtual/virtual-network.ts';
import { type VirtualEnvironment, VirtualNode } from '../utils/virtual/virtual-node.ts';
import { COORDINATOR } from './virtual-coordinator.ts';

/** Number of the first adversary. Honest nodes have smaller numbers. */
const FIRST_NUMBER = 100;
const MS_PER_STEP = 100;

/**
 * A member of the job that breaks the protocol, beside otherwise honest work. `poisoner`: trains the wrong way.
 * `liar`: sends a second, different update for each round. `replayer`: sends its messages and those of others again.
 * `garbler`: also sends damaged copies of its messages and requests. `thief`: sends updates of others as its own.
 */
export const ADVERSARIES = ['poisoner', 'liar', 'replayer', 'garbler', 'thief'] as const;
export type AdversaryKind = (typeof ADVERSARIES)[number];

/** Makes an adversary. It has its own random generator, so its random choices do not change the rest of the simulation. */
export function adversary(
  { kind, index, seed, toy }: { kind: AdversaryKind; index: number; seed: number; toy: ToyJob },
  environment: VirtualEnvironment,
  onDamaged: Malice['onDamaged'],
): VirtualNode {
  const number = FIRST_NUMBER + index;
  const random = new SeededRandom(seed);
  const node: VirtualNode = new VirtualNode(
    {
      number,
      coordinator: COORDINATOR.peerId,
      layout: toy.layout,
      msPerStep: MS_PER_STEP,
      blunders: kind === 'poisoner' ? 1 : 0,
      options: { job: toy.job },
      networkFor: (host) =>
        hostile(host, {
          kind,
          random,
          layout: toy.layout,
          signer: signerOf(number),
          updates: () => updatesOf(node),
          onDamaged,
        }),
    },
    environment,
  );
  return node;
}

interface Malice {
  readonly kind: AdversaryKind;
  readonly random: SeededRandom;
  readonly layout: AdapterLayout;
  readonly signer: Signer;
  /** The signed updates of the node that are not settled, newest first. */
  readonly updates: () => Uint8Array[];
  /** Called with each update whose bytes the adversary has changed, before the changed update is sent. */
  readonly onDamaged: (original: Uint8Array, changed: Uint8Array) => void;
}

/** Wraps the network of a node. Through the wrapper, the node also sends the messages of its adversary. */
function hostile(host: VirtualHost, malice: Malice): VirtualHost {
  const { kind, random } = malice;
  /** Messages that the node published or received. */
  const heard: { topic: string; bytes: Uint8Array; from: string }[] = [];
  const publish = async (topic: string, bytes: Uint8Array): Promise<number> => {
    const handed = await host.publish(topic, bytes);
    heard.push({ topic, bytes, from: host.peer });
    if (kind === 'garbler') await host.publish(topic, mutate(bytes, bytes, false, random));
    if (kind === 'replayer') {
      const { topic: where, bytes: old, from } = random.pick(heard);
      await host.relay(where, old, from);
    }
    if (kind === 'thief') {
      const others = heard.filter(({ from, topic: where }) => from !== host.peer && where === topic);
      if (others.length > 0) await host.publish(topic, random.pick(others).bytes);
    }
    if (kind === 'liar' || kind === 'garbler')
      for (const update of malice.updates()) void submit(host, update, malice);
    return handed;
  };
  const subscribe: VirtualHost['subscribe'] = (topic, handler, options) =>
    host.subscribe(
      topic,
      (message) => {
        heard.push({ topic, bytes: message.data, from: message.from });
        return handler(message);
      },
      options,
    );
  const changed: Record<string, unknown> = { publish, subscribe };
  return new Proxy(host, {
    get(target, name) {
      if (typeof name === 'string' && Object.hasOwn(changed, name)) return changed[name];
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Submits a false version of an update: damaged bytes, or another one with a valid signature. */
async function submit(host: VirtualHost, update: Uint8Array, malice: Malice): Promise<void> {
  const { kind, random, signer, onDamaged } = malice;
  const { signal } = new AbortController();
  const { message } = verifyMessage('update', update);
  const bytes =
    kind === 'liar'
      ? signMessage('update', { ...message, ...otherClaims(message, malice) }, signer)
      : mutate(update, update, true, random);
  if (kind === 'garbler') onDamaged(update, bytes);
  try {
    await host.request(COORDINATOR.peerId, 'submit', { update: bytes }, { signal });
  } catch (error) {
    // The coordinator refuses most false updates, and may have banned the node. Any other error is a defect.
    if (!isSwarmError(error)) throw error;
  }
}

/** Returns a change of an update: another payload that could be merged, or a false claim. */
function otherClaims({ preset, tokens }: Update, { random, layout }: Malice): Partial<Update> {
  const value = random.between(0.01, 0.1);
  const values = layout.map(({ shape: [rows, columns] }) => new Float32Array(rows * columns).fill(value));
  const inline = encodeUpdate(layout, values, preset).bytes;
  const payload = { digest: sha256(inline), size: inline.length };
  return random.pick([{ inline, payload }, { tokens: tokens - 1 }, { parent: payload.digest }]);
}

function updatesOf(node: VirtualNode): Uint8Array[] {
  return node.database
    .all('SELECT envelope FROM updates WHERE outcome IS NULL ORDER BY round DESC LIMIT 1')
    .map(({ envelope }) => envelope as Uint8Array);
}
