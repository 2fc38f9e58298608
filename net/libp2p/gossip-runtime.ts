/**
 * The members of gossipsub that our code uses, and that its published type leaves out. Written for `@libp2p/gossipsub`
 * 17.1.1. If the library exported its implementation class, this file would not be needed.
 */

import type { Message } from '@libp2p/gossipsub';
import type { RPC } from '@libp2p/gossipsub/message';
import type { TopicScoreParams } from '@libp2p/gossipsub/score';
import type { PeerId, Stream } from '@libp2p/interface';
import type { GossipVerdict } from '../network.ts';
import type { PulledStream } from './pulled-stream.ts';

/** A message that gossipsub has verified, and that waits for a verdict. */
export interface Arrival {
  propagationSource: PeerId;
  msgId: string;
  msg: Message;
}

/** The members that the gate for messages uses. */
export interface GatedRuntime {
  readonly peers: ReadonlyMap<string, unknown>;
  readonly score: {
    readonly params: { appSpecificScore: (peer: string) => number };
    rejectInvalidMessage(from: string, topic: string): void;
  };
  readonly gossipTracer: { readonly size: number; deliverMessage(messageId: string): void };
  readonly msgIdToStrFn: (id: Uint8Array) => string;
  acceptFrom(peer: string): boolean;
  handleReceivedRpc(from: PeerId, rpc: RPC): Promise<void>;
}

export interface GossipRuntime extends GatedRuntime {
  publish(
    topic: string,
    data: Uint8Array,
    options: { floodPublish: boolean },
  ): Promise<{ recipients: readonly PeerId[] }>;
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  getSubscribers(topic: string): readonly PeerId[];
  reportMessageValidationResult(messageId: string, from: string, verdict: GossipVerdict): void;
  readonly streamsOutbound: ReadonlyMap<string, { readonly rawStream: Stream }>;
  readonly streamsInbound: ReadonlyMap<string, { readonly rawStream: PulledStream }>;
  /** gossipsub checks this set before it stores anything about a topic. */
  allowedTopics: { has(topic: string): boolean } | null;
  readonly score: GatedRuntime['score'] & {
    readonly params: { readonly topics: Record<string, TopicScoreParams> };
  };
  createInboundStream(peer: PeerId, stream: Pick<Stream, 'close' | 'abort'>): void;
  addEventListener(type: 'gossipsub:message', listener: (event: CustomEvent<Arrival>) => void): void;
}
