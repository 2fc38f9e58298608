import { digestSchema } from '../ids.ts';

/** Gossip channels of a job. Only coordinators subscribe to `updates` and `peers`. */
export const jobChannels = ['heads', 'updates', 'peers'] as const;
/** Name of a gossip channel. */
export type JobChannel = (typeof jobChannels)[number];

/** Returns the gossip topic of a channel of a job. */
export function jobTopic(job: string, channel: JobChannel): string {
  return `/lora-swarm/2/${digestSchema.parse(job)}/${channel}`;
}

/** Parses a topic of {@link jobTopic}; null for any other topic. */
export function parseJobTopic(topic: string): { job: string; channel: JobChannel } | null {
  const match = /^\/lora-swarm\/2\/([0-9a-f]{64})\/([a-z]+)$/.exec(topic);
  const channel = jobChannels.find((c) => c === match?.[2]);
  return match && channel ? { job: match[1]!, channel } : null;
}
