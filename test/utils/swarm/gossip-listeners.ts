import type { GossipVerdict } from '../../../net/network.ts';
import { eventually } from '../eventually.ts';
import type { TestHost } from './hosts.ts';

/** Subscribes a host to a topic, answers each message with the same verdict, and records the messages. */
export function listen(host: TestHost, topic: string, verdict: GossipVerdict = 'accept') {
  const heard: { from: string; via: string; text: string }[] = [];
  const leave = host.network.subscribe(topic, ({ from, via, data }) => {
    heard.push({ from, via, text: Buffer.from(data).toString() });
    return verdict;
  });
  return { heard, leave };
}

/** Publishes numbered texts until each listener has received one, because subscriptions take time to spread. */
export async function untilHeard(
  from: TestHost,
  topic: string,
  listeners: { heard: { text: string }[] }[],
  label: string,
) {
  let n = 0;
  await eventually(
    async () => {
      await from.network.publish(topic, Buffer.from(`${label} ${n++}`));
      return listeners.every(({ heard }) => heard.some(({ text }) => text.startsWith(label)));
    },
    { what: `all listeners receiving "${label}"` },
  );
}
